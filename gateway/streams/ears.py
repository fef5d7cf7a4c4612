"""One subscriber connection for everything that a process of a backend wants to hear about streams.

What is heard is a hint that saves time; what Redis has stored is the truth. So after every loss whoever listens is told
to look, and nothing is kept for anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from gateway.broker import Connection
from gateway.errors import BrokerRefused

CONNECT_TIMEOUT_S: Final = 5.0
PROBE_INTERVAL_S: Final = 5.0

Heard = Callable[[bytes | None], None]
"""Called with each payload; None = something may have been missed. Must not raise."""


class Ears:
    """Who listens to which Redis channel."""

    def __init__(self, redis: Connection) -> None:
        self._subscriber = redis.subscriber(connect_timeout_s=CONNECT_TIMEOUT_S, probe_interval_s=PROBE_INTERVAL_S)
        self._listeners: dict[bytes, dict[Heard, None]] = {}
        self._confirmed: set[bytes] = set()
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Stay connected until cancelled."""
        await self._subscriber.run(self)

    async def listen(self, channel: bytes, heard: Heard) -> None:
        """Have `heard` called; returns when Redis has confirmed the channel, or after a while without an answer."""
        self._listeners.setdefault(channel, {})[heard] = None
        if channel in self._confirmed:
            return
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = asyncio.get_running_loop().create_future()
            self._subscriber.subscribe(channel)
        await asyncio.wait((waiting,), timeout=CONNECT_TIMEOUT_S)

    def leave(self, channel: bytes, heard: Heard) -> None:
        listeners = self._listeners.get(channel, {})
        listeners.pop(heard, None)
        if not listeners and self._listeners.pop(channel, None) is not None:
            self._subscriber.unsubscribe(channel)
            self._settle(channel, confirmed=False)

    # What the subscriber says (gateway.broker.SubscriberListener).

    def message_received(self, channel: bytes, payload: bytes) -> None:
        for heard in tuple(self._listeners.get(channel, ())):
            heard(payload)

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        self._settle(channel, confirmed=error is None and channel in self._listeners)

    def subscriber_connected(self) -> None:
        for channel, listeners in tuple(self._listeners.items()):
            self._settle(channel, confirmed=True)
            for heard in tuple(listeners):
                heard(None)

    def subscriber_lost(self, reason: str) -> None:  # noqa: ARG002 - the subscriber has logged it
        self._confirmed.clear()

    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None:
        """`subscriber_connected` tells everybody to look."""

    def _settle(self, channel: bytes, *, confirmed: bool) -> None:
        if confirmed:
            self._confirmed.add(channel)
        else:
            self._confirmed.discard(channel)
        waiting = self._waiting.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
