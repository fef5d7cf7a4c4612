"""A subscriber and a listener that keeps what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from gateway.broker import Subscriber
from gateway.config import Redis
from gateway.errors import BrokerRefused
from gateway.storage.redis import endpoint
from tests.support.waiting import wait_until


class SubscriberWorld:
    """A subscriber with no patience for backoff (its random numbers are 0) and a short probe interval."""

    def __init__(self, url: str, *, probe_interval_s: float = 5.0) -> None:
        self.subscriber = Subscriber(
            endpoint(Redis(url=url)),
            connect_timeout_s=5.0,
            probe_interval_s=probe_interval_s,
            random=lambda: 0.02,
        )
        self.events: list[str] = []
        self.messages: list[tuple[bytes, bytes]] = []
        self.confirmed: dict[bytes, BrokerRefused | None] = {}
        self.reasons: list[str] = []
        self.missed: list[set[bytes]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.subscriber.run(self))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # gateway.broker.SubscriberListener.

    def message_received(self, channel: bytes, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def subscriber_connected(self) -> None:
        self.events.append("connected")

    def subscriber_lost(self, reason: str) -> None:
        self.events.append("lost")
        self.reasons.append(reason)

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        self.confirmed[channel] = error

    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None:
        assert deaf_s >= 0
        self.missed.append(set(channels))

    # For tests.

    async def happened(self, *events: str) -> None:
        """Wait until exactly these events have happened."""
        await wait_until(
            lambda: self._task is None or self._task.done() or self.events == list(events),
            lambda: f"{events}: {self.events}",
        )
        assert self.events == list(events)

    async def subscribed(self, *channels: bytes) -> None:
        """Subscribe and wait for Redis."""
        for channel in channels:
            assert self.subscriber.subscribe(channel)
        await wait_until(lambda: self.confirmed.keys() >= set(channels), f"{channels!r:.100} are confirmed")
        assert not any(self.confirmed[channel] for channel in channels)

    async def received(self, *messages: tuple[bytes, bytes]) -> None:
        """Wait until exactly these messages have come."""
        await wait_until(
            lambda: len(self.messages) >= len(messages), lambda: f"{messages!r:.100}: {self.messages!r:.100}"
        )
        assert self.messages == list(messages)
