"""The subscriber connection: one per worker, in a cluster one per master.

redis-py's PubSub costs ten times as much per message, reconnects without saying so, and sends PING without looking for
the PONG. This one reports every loss and every return to its listener.

Theory of operation. The worker holds a set of wanted channels. A change is sent at the end of the current loop pass,
all changes of one kind in few commands (`link`, which is one life of the connection). After a loss everything wanted is
subscribed again, in batches, before `subscriber_connected` is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.broker.backoff import Backoff
from gateway.broker.link import Link, SubscriberListener
from gateway.broker.resp import PLAIN, Dialect
from gateway.errors import BrokerRefused, BrokerUnavailable
from gateway.log import get_logger
from gateway.storage.endpoint import Server

BACKOFF_BASE_S: Final = 0.1
BACKOFF_CAP_S: Final = 3.0


class Subscriber:
    """Keeps one connection to Redis subscribed to the wanted channels."""

    def __init__(
        self,
        server: Server,
        *,
        connect_timeout_s: float,
        probe_interval_s: float,
        random: Callable[[], float],
        dialect: Dialect = PLAIN,
        moved: Callable[[bytes], None] | None = None,
    ) -> None:
        """`random` gives floats in [0, 1) for the backoff; nothing is opened before `run`.

        `moved` is told of a channel that this server does not have any more: it is not wanted here any longer.
        """
        self._dialect = dialect
        self._tell_moved = moved
        self._server = server
        self._connect_timeout_s = connect_timeout_s
        self._probe_interval_s = probe_interval_s
        self._backoff = Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, random)
        self._wanted: dict[bytes, None] = {}
        self._link: Link | None = None
        self._log = get_logger(redis=str(server))

    @property
    def connected(self) -> bool:
        """Whether every wanted channel is subscribed, or about to be on a live connection."""
        return self._link is not None

    @property
    def channels(self) -> tuple[bytes, ...]:
        """The channels that are wanted."""
        return tuple(self._wanted)

    @property
    def wanted(self) -> int:
        """Number of channels that are wanted."""
        return len(self._wanted)

    def subscribe(self, channel: bytes) -> bool:
        """Want `channel`. True = an answer will come as `subscription_confirmed`; False = Redis is away, and the
        channel is subscribed when it is back."""
        self._wanted[channel] = None
        if self._link is None:
            return False
        self._link.subscribe(channel)
        return True

    def unsubscribe(self, channel: bytes) -> None:
        """Do not want `channel` any more. No answer."""
        if self._wanted.pop(channel, 0) is None and self._link is not None:
            self._link.unsubscribe(channel)

    async def run(self, listener: SubscriberListener) -> None:
        """Stay connected until cancelled, and tell `listener` what comes."""
        loop = asyncio.get_running_loop()
        deaf_since: float | None = None
        while True:
            link = Link(self._server, listener, self._dialect, self._refused, self._moved)
            reason = "cancelled"
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    await link.open()
                while missing := [channel for channel in self._wanted if channel not in link.held]:
                    async with asyncio.timeout(self._connect_timeout_s + len(missing) / 10_000):
                        await link.restore(missing)
                link.restored(self._wanted)
                self._link = link
                self._backoff.reset()
                self._log.info("redis connected", channels=len(self._wanted))
                if deaf_since is not None:
                    listener.publications_missed(tuple(self._wanted), loop.time() - deaf_since)
                    deaf_since = None
                listener.subscriber_connected()
                reason = await link.probe_until_lost(self._probe_interval_s)
            except (OSError, TimeoutError, BrokerUnavailable, BrokerRefused) as error:
                reason = str(error) or type(error).__name__
            finally:
                link.abort()
                if self._link is link:
                    self._link = None
                    deaf_since = loop.time() if deaf_since is None else deaf_since
                    listener.subscriber_lost(reason)
            delay_s = self._backoff.next_delay()
            self._log.warning("redis connection lost", reason=reason, retry_in_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    def reconnect(self) -> None:
        """Close the connection, as if Redis had: the server may be another by now."""
        if self._link is not None:
            self._link.end("connecting anew")

    def _refused(self, channel: bytes) -> None:
        self._wanted.pop(channel, None)

    def _moved(self, channel: bytes) -> None:
        self._wanted.pop(channel, None)
        if self._tell_moved is not None:
            self._tell_moved(channel)
