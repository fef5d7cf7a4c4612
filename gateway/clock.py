"""Time as an argument: whatever waits or expires takes a `Clock`, so that tests move time instead of sleeping."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that only moves forward, one that other machines agree on."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. For intervals and deadlines."""
        ...

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC. For times that come from or go to other machines (token expiry)."""
        ...


class SystemClock:
    """The clocks of this machine."""

    __slots__ = ()

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class FakeClock:
    """A clock that stands still until it is moved. For tests."""

    __slots__ = ("now",)

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
