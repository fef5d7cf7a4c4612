"""A table of counters in shared memory: one row a worker, one cell a metric.

The supervisor creates it and passes its file descriptor to the processes that it starts. Exactly one worker writes a
row; the control process reads all of them, at any moment, without asking a worker: it sees the numbers of one that is
stuck, too. Aligned 64-bit loads and stores are not torn on the platforms we run on, so there is no lock.

Behind the counters, on pages of its own, each worker has a row of 32-bit cells for the connections of each address
(`gateway.edge.addresses`), and behind those stand some random bytes that only the workers know.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Final

from gateway.metrics.names import METRICS, PID

CELL_BYTES = 8
ADDRESS_CELLS: Final = 4 * 65_536
"""32-bit cells in a worker's row of addresses."""
SEED_BYTES: Final = 32
_ADDRESS_ROW_BYTES: Final = ADDRESS_CELLS * 4
_PAGE_BYTES: Final = 4096


class CounterTable:
    """`rows` × `len(METRICS)` unsigned 64-bit cells in one shared file descriptor."""

    __slots__ = ("_map", "_view", "fd", "rows")

    def __init__(self, fd: int, rows: int) -> None:
        """Attach to the table behind `fd`, which stays the caller's to close."""
        self.fd = fd
        self.rows = rows
        self._map = mmap.mmap(fd, table_bytes(rows))
        self._view = memoryview(self._map)[: rows * len(METRICS) * CELL_BYTES].cast("Q")

    @classmethod
    def create(cls, rows: int) -> CounterTable:
        """Make a new table of zeros. Its file has no name: it is gone with the last process that holds it."""
        with tempfile.TemporaryFile(prefix="nexus-gateway-") as file:
            file.truncate(table_bytes(rows))
            file.seek(-SEED_BYTES, os.SEEK_END)
            file.write(os.urandom(SEED_BYTES))
            file.flush()
            return cls(os.dup(file.fileno()), rows)

    def row(self, index: int) -> memoryview[int]:
        """The cells of worker `index`, writable, indexed by the constants of `gateway.metrics.names`."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of a table with {self.rows} rows")
        width = len(METRICS)
        return self._view[index * width : (index + 1) * width]

    def addresses(self, index: int) -> memoryview[int]:
        """The cells of worker `index` for the connections of each address."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of a table with {self.rows} rows")
        start = _addresses_at(self.rows) + index * _ADDRESS_ROW_BYTES
        return memoryview(self._map)[start : start + _ADDRESS_ROW_BYTES].cast("I")

    @property
    def seed(self) -> bytes:
        """Random bytes, the same for all workers, told to nobody else."""
        return self._map[-SEED_BYTES:]

    def live_rows(self) -> Iterator[tuple[int, memoryview[int]]]:
        """Rows of workers that are running, with their index."""
        for index in range(self.rows):
            row = self.row(index)
            if row[PID]:
                yield index, row


def table_bytes(rows: int) -> int:
    """Size of the file for so many workers. Pages that nobody writes to take no memory."""
    return _addresses_at(rows) + rows * _ADDRESS_ROW_BYTES + SEED_BYTES


def _addresses_at(rows: int) -> int:
    return -(-rows * len(METRICS) * CELL_BYTES // _PAGE_BYTES) * _PAGE_BYTES


def private_row() -> memoryview[int]:
    """A row that nobody else sees. For tests and single parts."""
    return memoryview(bytearray(len(METRICS) * CELL_BYTES)).cast("Q")
