"""The pace of handshakes: in a storm they take turns, so that the connections that are there are not starved.

Theory of operation. A token bucket that holds a tick's worth of handshakes, hardly more: what counts is not how many
there are in a second but how many in a row, because the loop does nothing else meanwhile. Who finds it empty waits in a
queue, first come, first served; `run` lets as many go in each tick as the rate allows. Turns that a busy loop has
missed are not made up, so with more other work there are fewer handshakes. A client that waits is not read and costs a
socket and its request. Whoever comes when the queue is full is refused.

The rule that is easiest to break: while somebody waits, nobody goes first who has just come.
"""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Final, Protocol

from gateway.clock import Clock
from gateway.metrics import names

TICK_S: Final = 0.005
"""Time between two looks at the queue."""
LONGEST_S: Final = 0.01
"""Time for which unused and missed turns are kept: two ticks."""


class Waiting(Protocol):
    """Somebody in the queue."""

    def turn_came(self) -> None:
        """Go on."""
        ...


class HandshakePace:
    """Turns for one worker."""

    __slots__ = ("_at", "_clock", "_counters", "_per_s", "_places", "_queue", "_turns", "_wake")

    def __init__(self, per_s: float, places: int, counters: memoryview[int], clock: Clock) -> None:
        """`per_s`: turns in a second, 0 = as many as are wanted; `places` in the queue."""
        self._per_s = per_s
        self._places = places
        self._counters = counters
        self._clock = clock
        self._at = clock.monotonic()
        self._turns = self._most
        self._queue: dict[Waiting, None] = {}
        self._wake = asyncio.Event()

    @property
    def _most(self) -> float:
        return max(1.0, self._per_s * LONGEST_S)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def take(self) -> bool:
        """Take a turn now. False = it is somebody else's turn."""
        if not self._per_s:
            return True
        if self._queue:
            return False
        self._earn()
        if self._turns < 1:
            return False
        self._turns -= 1
        return True

    def queue(self, waiting: Waiting) -> bool:
        """Wait for a turn. False = the queue is full."""
        if len(self._queue) >= self._places:
            return False
        self._queue[waiting] = None
        self._counters[names.HANDSHAKES_PACED] += 1
        self._counters[names.HANDSHAKES_WAITING] = len(self._queue)
        self._wake.set()
        return True

    def leave(self, waiting: Waiting) -> None:
        """It waits no more. Harmless when it did not."""
        if self._queue.pop(waiting, self) is None:
            self._counters[names.HANDSHAKES_WAITING] = len(self._queue)

    def wait_s(self) -> int:
        """Time until a queue like this one is done, in whole seconds, at least 1."""
        return max(1, ceil(len(self._queue) / self._per_s)) if self._per_s else 1

    def tick(self) -> None:
        """Let those go whose turn it is."""
        self._earn()
        while self._queue and self._turns >= 1:
            self._turns -= 1
            waiting = next(iter(self._queue))
            del self._queue[waiting]
            waiting.turn_came()
        self._counters[names.HANDSHAKES_WAITING] = len(self._queue)

    async def run(self) -> None:
        """Let them go until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await asyncio.sleep(TICK_S)
                self.tick()

    def _earn(self) -> None:
        now = self._clock.monotonic()
        self._turns = min(self._most, self._turns + (now - self._at) * self._per_s)
        self._at = now
