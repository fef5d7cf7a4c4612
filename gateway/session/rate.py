"""A command rate limit that costs one number per client: the generic cell rate algorithm (ITU-T I.371).

The number is the client's "theoretical arrival time": the moment at which its allowance is full again.
"""

from __future__ import annotations


class RateLimit:
    """`per_s` commands a second for long, `burst` at once."""

    __slots__ = ("_interval_s", "_tolerance_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._interval_s = 1.0 / per_s
        self._tolerance_s = burst / per_s

    def admit(self, full_again_at: float, commands: int, now: float) -> tuple[int, float]:
        """How many of `commands` may pass at `now` (seconds, monotonic), and the client's new number."""
        start = max(full_again_at, now)
        room = int((now + self._tolerance_s - start) / self._interval_s + 1e-6)
        admitted = max(0, min(commands, room))
        return admitted, start + admitted * self._interval_s
