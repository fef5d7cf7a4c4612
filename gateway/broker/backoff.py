"""Waiting longer after each failure, at a random point, so that a fleet does not come back in step."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Exponential backoff with full jitter: each delay is uniform in [0, min(cap, base · 2^failures)].

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog. `random` returns floats in [0, 1).
    """

    __slots__ = ("_base_s", "_cap_s", "_failures", "_random")

    def __init__(self, base_s: float, cap_s: float, random: Callable[[], float]) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = random
        self._failures = 0

    def next_delay(self) -> float:
        """Seconds to wait after one more failure."""
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return ceiling * self._random()

    def reset(self) -> None:
        """After a success."""
        self._failures = 0
