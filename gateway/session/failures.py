"""Invalid tokens: who sends many gets its answers late.

Each address (an IPv6 /64 is one) may send some in a minute without consequences. From then on the answer to each
further one comes later than the one before, up to a limit, and when it stops it is forgotten within minutes. Only
refusals wait: a good token is answered at once, whoever else is behind the same address. Everything is bounded: the
addresses that are remembered, and the answers that wait; past these bounds an answer is given at once.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.clock import Clock
from gateway.metrics import names
from gateway.session.network import network_of

REMEMBERED: Final = 10_000
"""Addresses; past it the one that has been quiet longest is forgotten."""
WAITING: Final = 1000
"""Answers of a worker that may wait at once."""
SHORTEST_S: Final = 0.125
"""The first delay; each further one is twice as long."""
FORGIVES_S: Final = 60.0
"""Time in which as many failures are forgotten as are allowed."""
STEPS: Final = 16
"""Failures above the allowed ones that are counted."""


class Failures:
    """Failed authentications of one worker's clients, by address."""

    def __init__(self, clock: Clock, counters: memoryview[int], *, allowed: int, longest_s: float) -> None:
        """`allowed` failures in a minute without a delay, 0 = none is ever delayed; `longest_s`: longest delay."""
        self._clock = clock
        self._counters = counters
        self._allowed = allowed
        self._longest_s = longest_s
        self._scores: dict[str, tuple[float, float]] = {}
        self._waiting = 0

    def delay_s(self, network: str) -> float:
        """Count a failure; how long its answer should wait."""
        if not self._allowed:
            return 0.0
        now = self._clock.monotonic()
        score, at = self._scores.pop(network, (0.0, now))
        score = min(max(0.0, score - (now - at) * self._allowed / FORGIVES_S) + 1, self._allowed + STEPS)
        self._scores[network] = (score, now)
        if len(self._scores) > REMEMBERED:
            del self._scores[next(iter(self._scores))]
        over = score - self._allowed
        return float(min(self._longest_s, SHORTEST_S * 2 ** (over - 1))) if over > 0 else 0.0

    def answer_later(self, peer: str) -> asyncio.Future[None] | None:
        """A client at `peer` (address and port) has sent an invalid token: what its answer should wait for, if any."""
        self._counters[names.AUTH_FAILURES] += 1
        delay_s = self.delay_s(network_of(peer.rpartition(":")[0]))
        if not delay_s or self._waiting >= WAITING:
            return None
        self._counters[names.AUTH_DELAYED] += 1
        self._waiting += 1
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        loop.call_later(delay_s, self._over, over)
        return over

    def _over(self, future: asyncio.Future[None]) -> None:
        self._waiting -= 1
        if not future.done():
            future.set_result(None)
