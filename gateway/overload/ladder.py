"""How bad it is: a level, from the used share of the memory, so that it does not flap.

A level begins at its threshold and ends `hysteresis` below it. Stalls (PSI) are the second signal: while processes
wait for memory, the level counts as one more, but never as a drain: that needs memory that is really used up.
"""

from __future__ import annotations

from enum import IntEnum

STALLS_END = 0.5
"""Part of the threshold of stalls below which they are over."""


class Level(IntEnum):
    """What is done, each on top of those before it."""

    NORMAL = 0
    SHRINK = 1
    HALVE = 2
    REFUSE = 3
    CLOSE = 4
    DRAIN = 5

    @property
    def does(self) -> str:
        """For the log."""
        return (
            "nothing",
            "drops caches, grants no compression, collects garbage",
            "halves send budgets",
            "refuses new connections",
            "closes the slowest clients",
            "drains one worker",
        )[self]


class Ladder:
    """`thresholds`: shares at which SHRINK … DRAIN begin, ascending. `stalled_at`: percent; 0 = no second signal."""

    __slots__ = ("_hysteresis", "_stalled_at", "_stalling", "_step", "_thresholds")

    def __init__(self, thresholds: tuple[float, ...], *, hysteresis: float, stalled_at: float) -> None:
        self._thresholds = thresholds
        self._hysteresis = hysteresis
        self._stalled_at = stalled_at
        self._step = 0
        self._stalling = False

    def look(self, share: float, stalled: float) -> Level:
        """The level now. Goes up at once, as far as it has to."""
        while self._step < len(self._thresholds) and share >= self._thresholds[self._step]:
            self._step += 1
        while self._step and share < self._thresholds[self._step - 1] - self._hysteresis:
            self._step -= 1
        if self._stalled_at:
            self._stalling = stalled >= self._stalled_at * (STALLS_END if self._stalling else 1.0)
        if self._stalling and self._step < Level.CLOSE:
            return Level(self._step + 1)
        return Level(self._step)
