"""The index of one worker: channel → receivers, user → sessions, Redis message → fan-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from gateway.clock import Clock
from gateway.config import Namespace
from gateway.errors import BrokerRefused
from gateway.hub.channel import Channel, Receiver
from gateway.hub.fanout import Fanout
from gateway.hub.interest import Interest, SubscribesInRedis
from gateway.hub.reports import DropReports
from gateway.log import get_logger
from gateway.metrics import names
from protocol.errors import EnvelopeError
from protocol.redis_contract import decode_payload, publish_prefix


class Hub:
    """Channels and their receivers. The listener of the broker's subscriber (`gateway.broker.SubscriberListener`)."""

    def __init__(
        self,
        redis: SubscribesInRedis,
        fanout: Fanout,
        counters: memoryview[int],
        clock: Clock,
        *,
        prefix: str,
        namespaces: Mapping[str, Namespace],
        linger_s: float,
        publication_bytes: int,
        redis_state_changed: Callable[[bool], None] | None = None,
    ) -> None:
        """`redis_state_changed` is told when Redis comes (True) and goes (False)."""
        self._fanout = fanout
        self._counters = counters
        self._prefix = publish_prefix(prefix)
        self._namespaces = namespaces
        self._publication_bytes = publication_bytes
        self._redis_state_changed = redis_state_changed
        self._channels: dict[bytes, Channel] = {}
        self._interest = Interest(redis, clock, linger_s=linger_s, forget=self._forget)
        self._reports = DropReports(clock)
        self._log = get_logger()

    async def run(self) -> None:
        """Tidy up until cancelled."""
        await self._interest.run()

    # Joining and leaving.

    def open(
        self, names_and_namespaces: Iterable[tuple[str, str]]
    ) -> tuple[list[Channel], asyncio.Future[None] | None]:
        """Get channels ready for somebody to join: pairs of channel name and namespace name.

        Returns the channels, and a future to wait for unless all of them are held in Redis already; it raises
        BrokerRefused. Every channel returned must go to `join` or to `cancel`, exactly once.
        """
        channels: list[Channel] = []
        for name, namespace in names_and_namespaces:
            redis_name = self._prefix + name.encode()
            channel = self._channels.get(redis_name)
            if channel is None:
                channel = Channel(name, redis_name, self._namespaces[namespace or "default"])
                self._channels[redis_name] = channel
            channel.acquisitions += 1
            channels.append(channel)
        return channels, self._interest.acquire(channels)

    def join(self, channel: Channel, receiver: Receiver) -> None:
        """Deliver to `receiver` from now on."""
        channel.acquisitions -= 1
        if not channel.receivers:
            self._counters[names.CHANNELS] += 1
        channel.add(receiver)
        self._counters[names.SUBSCRIPTIONS] += 1

    def cancel(self, channel: Channel) -> None:
        """Nobody comes of this `open`."""
        channel.acquisitions -= 1
        if channel.idle:
            self._interest.release(channel)

    def leave(self, channel: Channel, receiver: Receiver) -> None:
        """Deliver nothing more to `receiver`, also not from a pass that is under way."""
        if not channel.remove(receiver):
            return
        self._counters[names.SUBSCRIPTIONS] -= 1
        if not channel.receivers:
            self._counters[names.CHANNELS] -= 1
            if channel.idle:
                self._interest.release(channel)

    def _forget(self, channel: Channel) -> None:
        if channel.idle:
            self._channels.pop(channel.redis_name, None)

    # What Redis says.

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """One publication from Redis: decode, queue for fan-out. On the path of every message; never raises."""
        counters = self._counters
        counters[names.PUBLICATIONS] += 1
        known = self._channels.get(channel)
        if known is None or not known.receivers:
            return
        if len(payload) > self._publication_bytes:
            counters[names.DROPPED_TOO_LARGE] += 1
            self._reports.dropped(known.name, "too large", payload_bytes=len(payload), limit=self._publication_bytes)
            return
        try:
            received = decode_payload(payload)
        except EnvelopeError as error:
            counters[names.DROPPED_INVALID] += 1
            self._reports.dropped(known.name, "undecodable", error=str(error), payload_bytes=len(payload))
            return
        self._fanout.enqueue(known, received.publication, len(payload))

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        known = self._channels.get(channel)
        if known is None:
            return
        if error is not None:
            self._log.error("redis refused a channel", channel=known.name, error=str(error))
        self._interest.confirmed(known, error)
        if error is not None:
            for receiver in list(known.receivers):
                receiver.subscription_lost(known.name)

    def subscriber_connected(self) -> None:
        self._counters[names.REDIS_CONNECTED] = 1
        if self._redis_state_changed is not None:
            self._redis_state_changed(True)

    def subscriber_lost(self, reason: str) -> None:  # noqa: ARG002 - the subscriber has logged it
        self._counters[names.REDIS_CONNECTED] = 0
        self._counters[names.REDIS_LOST] += 1
        self._interest.redis_lost()
        if self._redis_state_changed is not None:
            self._redis_state_changed(False)
