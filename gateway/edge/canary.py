"""The canary: a message that a worker sends to itself through Redis, to know that messages come through.

An open connection says little: Redis may be frozen, refuse to publish, or have a subscriber connection that nobody
feeds. So every `interval_s` the worker publishes a number on a channel of its own, through the same queue as its
clients, and listens for it with the same subscriber. The time in between is the operation `redis_canary`.

The rule that is easiest to break: one canary that is lost must not turn a worker away from its load balancer, because
all workers lose theirs in the same moment, and then there is none left. The verdict changes after `MISSES` in a row,
and back after `HITS`; only the very first counts at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from gateway.clock import Clock
from gateway.errors import BrokerError
from gateway.log import get_logger
from gateway.metrics import LatencyRecorder
from gateway.metrics.names import OP_REDIS_CANARY

MISSES: Final = 5
"""Canaries in a row that must not come back before the worker says that it is not ready: 10 s by default."""
HITS: Final = 2
"""Canaries in a row that must come back before it says that it is ready again."""

Publish = Callable[[bytes, bytes], asyncio.Future[int]]


class Hysteresis:
    """A verdict that takes several contrary signs in a row to change. Before the first good sign it is False."""

    __slots__ = ("_contrary", "_down_after", "_judged", "_up_after", "up")

    def __init__(self, *, down_after: int, up_after: int) -> None:
        self.up = False
        self._down_after = down_after
        self._up_after = up_after
        self._contrary = 0
        self._judged = False

    def sign(self, good: bool) -> bool:
        """Take one sign. True when the verdict has changed by it."""
        if good == self.up:
            self._contrary = 0
            return False
        self._contrary += 1
        if self._judged and self._contrary < (self._up_after if good else self._down_after):
            return False
        if not self._judged and not good:
            return False
        self.up, self._contrary, self._judged = good, 0, True
        return True


class Canary:
    """Sends and hears the canary of one worker. `heard` is for who receives what comes on `channel`."""

    def __init__(
        self,
        publish: Publish,
        subscribe: Callable[[bytes], object],
        verdict: Callable[[bool], None],
        clock: Clock,
        *,
        channel: bytes,
        interval_s: float,
        latency: LatencyRecorder | None = None,
    ) -> None:
        """`verdict` is told each change: True = messages come through."""
        self.channel = channel
        self._publish = publish
        self._subscribe = subscribe
        self._verdict = verdict
        self._clock = clock
        self._interval_s = interval_s
        self._latency = latency
        self._state = Hysteresis(down_after=MISSES, up_after=HITS)
        self._number = 0
        self._expected: bytes | None = None
        self._sent_s = 0.0
        self._came = False
        """Whether one has come since the last beat."""
        self._sending: asyncio.Future[int] | None = None
        self._connected = asyncio.Event()
        self._log = get_logger()

    async def run(self) -> None:
        """Send canaries until cancelled."""
        loop = asyncio.get_running_loop()
        self._subscribe(self.channel)
        due = loop.time() + self._interval_s
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._connected.wait()
            except TimeoutError:
                due = loop.time() + self._interval_s
                self.beat()
            else:
                self._connected.clear()
                self.send()

    def redis_changed(self, connected: bool) -> None:
        """The subscriber has a connection, or has lost it. A canary does not wait for its time then."""
        if connected:
            self._connected.set()

    def beat(self) -> None:
        """An interval is over: that no canary has come in it is a bad sign. Send the next."""
        if not self._came:
            self._sign(good=False)
            # Redis may have refused the channel, and would do so no more: ask again. Harmless when it is held.
            self._subscribe(self.channel)
        self._came = False
        self.send()

    def send(self) -> None:
        """Send a canary, unless Redis still owes the answer to the last."""
        if self._sending is not None and not self._sending.done():
            return
        self._number += 1
        self._expected = b"%d" % self._number
        self._sent_s = self._clock.monotonic()
        with contextlib.suppress(BrokerError):  # then it will not come back, which is what counts
            self._sending = self._publish(self.channel, self._expected)

    def heard(self, payload: bytes) -> None:
        """Something has come on `channel`. An older canary than the last is none: its time is not known any more."""
        if payload != self._expected:
            return
        self._expected = None
        if self._latency is not None:
            self._latency.record(OP_REDIS_CANARY, self._clock.monotonic() - self._sent_s)
        if not self._came:
            self._came = True
            self._sign(good=True)

    def _sign(self, *, good: bool) -> None:
        if not self._state.sign(good):
            return
        self._verdict(good)
        if good:
            self._log.info("canary is back")
        else:
            self._log.warning("canary is lost: not ready", missed=MISSES, interval_s=self._interval_s)
