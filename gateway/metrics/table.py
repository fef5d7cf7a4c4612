"""A table of counters in shared memory: one row a worker, one cell a metric.

The supervisor creates it and passes its file descriptor to the processes that it starts. Exactly one worker writes a
row; the control process reads all of them, at any moment, without asking a worker: it sees the numbers of one that is
stuck, too. Aligned 64-bit loads and stores are not torn on the platforms we run on, so there is no lock.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator

from gateway.metrics.names import METRICS, PID

CELL_BYTES = 8


class CounterTable:
    """`rows` × `len(METRICS)` unsigned 64-bit cells in one shared file descriptor."""

    __slots__ = ("_map", "_view", "fd", "rows")

    def __init__(self, fd: int, rows: int) -> None:
        """Attach to the table behind `fd`, which stays the caller's to close."""
        self.fd = fd
        self.rows = rows
        self._map = mmap.mmap(fd, rows * len(METRICS) * CELL_BYTES)
        self._view = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, rows: int) -> CounterTable:
        """Make a new table of zeros. Its file has no name: it is gone with the last process that holds it."""
        with tempfile.TemporaryFile(prefix="nexus-gateway-") as file:
            file.truncate(rows * len(METRICS) * CELL_BYTES)
            return cls(os.dup(file.fileno()), rows)

    def row(self, index: int) -> memoryview[int]:
        """The cells of worker `index`, writable, indexed by the constants of `gateway.metrics.names`."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of a table with {self.rows} rows")
        width = len(METRICS)
        return self._view[index * width : (index + 1) * width]

    def live_rows(self) -> Iterator[tuple[int, memoryview[int]]]:
        """Rows of workers that are running, with their index."""
        for index in range(self.rows):
            row = self.row(index)
            if row[PID]:
                yield index, row


def private_row() -> memoryview[int]:
    """A row that nobody else sees. For tests and single parts."""
    return memoryview(bytearray(len(METRICS) * CELL_BYTES)).cast("Q")
