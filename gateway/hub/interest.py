"""The worker's subscriptions in Redis follow the channels that have receivers.

A channel is acquired before somebody joins it and released when the last one has left. Acquiring a channel that the
worker does not hold sends SUBSCRIBE and waits for the answer: the client's subscription is confirmed only when nothing
published from then on can be missed. Released channels linger, so that a reconnect storm does not churn Redis.

A refusal by Redis rolls the channel back and reaches everyone who waited for it. While Redis is away an acquisition
succeeds at once: the channel is subscribed when Redis is back, and channels without a log promise no more than that.

State changes are synchronous and Redis answers one connection in order, so there is no lock that could be held: of two
sessions that acquire one channel, the second finds it PENDING and waits for the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from gateway.clock import Clock
from gateway.errors import BrokerRefused
from gateway.hub.channel import Channel, Held

SWEEP_S: Final = 0.5
"""Time between two looks for channels that have lingered long enough."""


class SubscribesInRedis(Protocol):
    """What interest needs of the broker's subscriber."""

    def subscribe(self, channel: bytes) -> bool:
        """False = Redis is away; the channel is subscribed when it is back."""
        ...

    def unsubscribe(self, channel: bytes) -> None: ...


class Acquisition:
    """Somebody who waits until Redis has answered for all of several channels."""

    __slots__ = ("done", "left")

    def __init__(self) -> None:
        self.left = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


class Interest:
    """Acquires and releases channels in Redis."""

    def __init__(
        self, redis: SubscribesInRedis, clock: Clock, *, linger_s: float, forget: Callable[[Channel], None]
    ) -> None:
        """`forget` is called with a channel that is neither used nor held any more."""
        self._redis = redis
        self._clock = clock
        self._linger_s = linger_s
        self._forget = forget
        self._lingering: dict[Channel, float] = {}
        self._pending: dict[Channel, None] = {}

    def acquire(self, channels: Sequence[Channel]) -> asyncio.Future[None] | None:
        """Hold `channels`. None = they are held already (or Redis is away); else wait for the future.

        Afterwards a channel that Redis refused has `held` NO. Each acquired channel must be released with `release`
        once it is idle, also after a refusal.
        """
        acquisition: Acquisition | None = None
        for channel in channels:
            if self._lingering:
                self._lingering.pop(channel, None)
            if channel.held is Held.YES:
                continue
            if channel.held is Held.NO:
                if not self._redis.subscribe(channel.redis_name):
                    channel.held = Held.YES
                    continue
                channel.held = Held.PENDING
                self._pending[channel] = None
            if acquisition is None:
                acquisition = Acquisition()
            if channel.waiting is None:
                channel.waiting = []
            channel.waiting.append(acquisition)
            acquisition.left += 1
        return acquisition.done if acquisition is not None else None

    def release(self, channel: Channel) -> None:
        """`channel` is idle: give it up in Redis after the linger time, unless somebody acquires it before."""
        if channel.held is Held.NO:
            self._forget(channel)
        else:
            self._lingering[channel] = self._clock.monotonic() + self._linger_s

    def confirmed(self, channel: Channel, error: BrokerRefused | None) -> None:
        """Redis has answered."""
        self._pending.pop(channel, None)
        channel.held = Held.YES if error is None else Held.NO
        waiting, channel.waiting = channel.waiting, None
        for acquisition in waiting or ():
            acquisition.answered()
        if error is not None and self._lingering.pop(channel, None) is not None:
            self._forget(channel)

    def redis_lost(self) -> None:
        """Who waits need not wait longer: everything wanted is subscribed when Redis is back."""
        for channel in list(self._pending):
            self.confirmed(channel, None)

    def sweep(self) -> None:
        """Give up channels whose linger time is over."""
        now = self._clock.monotonic()
        for channel in _until(self._lingering, now):
            del self._lingering[channel]
            if channel.idle and channel.held is not Held.PENDING:
                self._redis.unsubscribe(channel.redis_name)
                channel.held = Held.NO
                self._forget(channel)
            elif channel.idle:
                self.release(channel)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()


def _until(deadlines: dict[Channel, float], now: float) -> Iterable[Channel]:
    """Those whose deadline has passed. All deadlines have the same length, so insertion order is their order."""
    due: list[Channel] = []
    for channel, deadline in deadlines.items():
        if deadline > now:
            break
        due.append(channel)
    return due
