"""The heap of a worker: the garbage collector and the allocator, with every pause measured.

Long-lived objects are frozen: a full collection would walk over all of them, 100 ms and more with 10,000 connections,
and find nothing, because a closed connection takes itself apart. Under pressure, and only then, garbage is collected
and freed pages go back to the system (`malloc_trim`, glibc): the allocator keeps them otherwise, and nobody would see
that clients have left.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final

from gateway.clock import Clock
from gateway.metrics import names

GROWTH: Final = 1000
"""Connections that must have come since the heap was last frozen."""
YOUNG_OBJECTS: Final = 10_000
"""Allocations between two young collections: a connection makes about 60 objects, and they are there to stay."""


class Heap:
    """Everything happens on the loop's thread: these are pauses of the whole worker, `memory_pause…` in the metrics."""

    __slots__ = ("_clock", "_counters", "_frozen_at", "_interval_s", "_next", "_trim")

    def __init__(
        self, counters: memoryview[int], clock: Clock, *, interval_s: float, trim: Callable[[int], int] | None
    ) -> None:
        """`interval_s`: time between two `reclaim`. `trim`: `malloc_trim`, None where there is none."""
        self._counters = counters
        self._clock = clock
        self._interval_s = interval_s
        self._trim = trim
        self._next = 0.0
        self._frozen_at = 0

    def settle(self) -> None:
        """The worker is built: what is there now stays for good. Nobody is connected yet who could notice."""
        gc.set_threshold(YOUNG_OBJECTS)
        gc.collect()
        gc.freeze()

    def grown_to(self, connections: int) -> None:
        """There are so many connections: freeze the heap again if it has grown a lot."""
        if connections > self._frozen_at + GROWTH:
            started = self._clock.monotonic()
            gc.freeze()
            self._paused(started)
            self._frozen_at = connections
        elif connections < self._frozen_at // 2:
            self._frozen_at = connections

    def reclaim(self) -> bool:
        """Collect garbage and give free pages back; False = it was done a moment ago, and is not done again."""
        started = self._clock.monotonic()
        if started < self._next:
            return False
        self._next = started + self._interval_s
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        self._paused(started)
        return True

    def _paused(self, started: float) -> None:
        counters = self._counters
        pause_us = int((self._clock.monotonic() - started) * 1e6)
        counters[names.MEMORY_PAUSE_US] += pause_us
        counters[names.MEMORY_LONGEST_PAUSE_US] = max(counters[names.MEMORY_LONGEST_PAUSE_US], pause_us)


def find_malloc_trim() -> Callable[[int], int] | None:
    """`malloc_trim` of the C library of this process; None if it has none (musl, macOS)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int

    def malloc_trim(padding: int) -> int:
        return int(trim(padding))

    return malloc_trim
