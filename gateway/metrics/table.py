"""A table of counters in shared memory: one row a worker, one cell a metric.

The supervisor creates it and passes its file descriptor to the processes that it starts. Exactly one worker writes a
row; the control process reads all of them, at any moment, without asking a worker: it sees the numbers of one that is
stuck, too. Aligned 64-bit loads and stores are not torn on the platforms we run on, so there is no lock.

While workers are rolled, one and its successor run side by side: each has one of `generations` rows beside each other,
and readers see their sum.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.metrics.names import BEAT_MS, LISTENING, METRICS, PID, READY, REDIS_CONNECTED, STARTED_S

CELL_BYTES = 8
NO_AMOUNTS: Final = frozenset((PID, BEAT_MS, STARTED_S, READY, REDIS_CONNECTED, LISTENING))
"""Gauges whose sum over two generations of a worker means nothing."""


class CounterTable:
    """`rows` × `len(METRICS)` unsigned 64-bit cells in one shared file descriptor."""

    __slots__ = ("_map", "_view", "fd", "generations", "rows")

    def __init__(self, fd: int, rows: int, generations: int = 1) -> None:
        """Attach to the table behind `fd`, which stays the caller's to close; `rows` in it, of all generations."""
        self.fd = fd
        self.rows = rows
        self.generations = generations
        self._map = mmap.mmap(fd, rows * len(METRICS) * CELL_BYTES)
        self._view = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, rows: int, generations: int = 1) -> CounterTable:
        """Make a new table of zeros. Its file has no name: it is gone with the last process that holds it."""
        with tempfile.TemporaryFile(prefix="nexus-gateway-") as file:
            file.truncate(rows * len(METRICS) * CELL_BYTES)
            return cls(os.dup(file.fileno()), rows, generations)

    def row(self, index: int) -> memoryview[int]:
        """The cells of worker `index`, writable, indexed by the constants of `gateway.metrics.names`."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of a table with {self.rows} rows")
        width = len(METRICS)
        return self._view[index * width : (index + 1) * width]

    def live_rows(self) -> Iterator[tuple[int, memoryview[int]]]:
        """Slots of workers that are running, with what all generations of their row say together. To be read only."""
        for slot in range(self.rows // self.generations):
            first = slot * self.generations
            rows = [self.row(index) for index in range(first, first + self.generations)]
            if any(row[PID] for row in rows):
                yield slot, rows[0] if len(rows) == 1 else _together(rows)


def _together(rows: Sequence[memoryview[int]]) -> memoryview[int]:
    """Sums, so that counters never go back; of what is no amount, the newest."""
    together = private_row()
    for cell, values in enumerate(zip(*rows, strict=True)):
        together[cell] = max(values) if cell in NO_AMOUNTS else sum(values)
    return together


def private_row() -> memoryview[int]:
    """A row that nobody else sees. For tests and single parts."""
    return memoryview(bytearray(len(METRICS) * CELL_BYTES)).cast("Q")
