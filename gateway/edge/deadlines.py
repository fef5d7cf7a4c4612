"""Many deadlines of one length, for the price of a dict entry each and no timer."""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.clock import Clock

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Things that must be over within `timeout_s`. All deadlines have one length, so their order is insertion order."""

    __slots__ = ("_clock", "_due", "_timeout_s")

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._due: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, thing: T) -> bool:
        return thing in self._due

    def start(self, thing: T) -> None:
        """Start (or start again) the time of `thing`."""
        self._due.pop(thing, None)
        self._due[thing] = self._clock.monotonic() + self._timeout_s

    def met(self, thing: T) -> None:
        """`thing` is over."""
        self._due.pop(thing, None)

    def expire(self) -> list[T]:
        """Remove and return what is not over in time."""
        now = self._clock.monotonic()
        late: list[T] = []
        for thing, due in self._due.items():
            if due > now:
                break
            late.append(thing)
        for thing in late:
            del self._due[thing]
        return late
