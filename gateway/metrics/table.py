"""A table in shared memory: for each worker a row of counters and a row of latencies, one of latencies for control.

The supervisor creates it and passes its file descriptor to the processes that it starts. Exactly one process writes a
row; the control process reads all of them, at any moment, without asking a worker: it sees the numbers of one that is
stuck, too. Aligned 64-bit loads and stores are not torn on the platforms we run on, so there is no lock.

The file has the counters first; then, on pages of their own, the latencies, and for each worker a row of 32-bit cells
for the connections of each address (`gateway.edge.addresses`); last some random bytes that only the workers know.

While workers are rolled, one and its successor run side by side: each has one of `generations` rows beside each other,
and readers see their sum.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.metrics.latency import CONTROL_CELLS, EDGE_CELLS, LatencyRow
from gateway.metrics.names import (
    BEAT_MS,
    CONTROL_OPERATIONS,
    EDGE_OPERATIONS,
    LISTENING,
    MEMORY_LEVEL,
    MEMORY_LIMIT,
    MEMORY_LONGEST_PAUSE_US,
    MEMORY_STALLED,
    MEMORY_USED,
    METRICS,
    PID,
    READY,
    REDIS_CONNECTED,
    STARTED_S,
)

CELL_BYTES: Final = 8
PAGE_CELLS: Final = 4096 // CELL_BYTES
NO_AMOUNTS: Final = frozenset(
    (
        *(PID, BEAT_MS, STARTED_S, READY, REDIS_CONNECTED, LISTENING),
        *(MEMORY_USED, MEMORY_LIMIT, MEMORY_LEVEL, MEMORY_STALLED, MEMORY_LONGEST_PAUSE_US),
    )
)
"""Gauges whose sum over two generations of a worker means nothing."""
ADDRESS_CELLS: Final = 4 * 65_536
"""32-bit cells in a worker's row of addresses."""
SEED_BYTES: Final = 32
_ADDRESS_ROW_BYTES: Final = ADDRESS_CELLS * 4


class CounterTable:
    """`rows` × `len(METRICS)` unsigned 64-bit cells in one shared file descriptor, and the latencies behind them."""

    __slots__ = ("_map", "_view", "fd", "generations", "rows")

    def __init__(self, fd: int, rows: int, generations: int = 1) -> None:
        """Attach to the table behind `fd`, which stays the caller's to close; `rows` in it, of all generations."""
        self.fd = fd
        self.rows = rows
        self.generations = generations
        self._map = mmap.mmap(fd, table_bytes(rows))
        self._view = memoryview(self._map)[: _addresses_at(rows)].cast("Q")

    @classmethod
    def create(cls, rows: int, generations: int = 1) -> CounterTable:
        """Make a new table of zeros. Its file has no name: it is gone with the last process that holds it."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("nexus-gateway", os.MFD_CLOEXEC)
            os.ftruncate(fd, table_bytes(rows))
            return cls._seeded(fd, rows, generations)
        with tempfile.TemporaryFile(prefix="nexus-gateway-") as file:
            file.truncate(table_bytes(rows))
            fd = os.dup(file.fileno())
            return cls._seeded(fd, rows, generations)

    @classmethod
    def _seeded(cls, fd: int, rows: int, generations: int) -> CounterTable:
        os.pwrite(fd, os.urandom(SEED_BYTES), table_bytes(rows) - SEED_BYTES)
        return cls(fd, rows, generations)

    def row(self, index: int) -> memoryview[int]:
        """The cells of worker `index`, writable, indexed by the constants of `gateway.metrics.names`."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of a table with {self.rows} rows")
        width = len(METRICS)
        return self._view[index * width : (index + 1) * width]

    def latency_row(self, index: int) -> LatencyRow:
        """The latencies of worker `index`; those of the control process at the index `rows`."""
        if not 0 <= index <= self.rows:
            raise IndexError(f"latency row {index} of a table with {self.rows} rows")
        start = _pages(self.rows * len(METRICS)) + index * _pages(EDGE_CELLS)
        if index == self.rows:
            return LatencyRow(self._view[start : start + CONTROL_CELLS], CONTROL_OPERATIONS)
        return LatencyRow(self._view[start : start + EDGE_CELLS], EDGE_OPERATIONS)

    def latency_rows(self) -> list[LatencyRow]:
        """Those of all workers, running or not, and that of the control process last."""
        return [self.latency_row(index) for index in range(self.rows + 1)]

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


def table_bytes(rows: int) -> int:
    """Size of the file for so many workers. Pages that nobody writes to take no memory."""
    return _addresses_at(rows) + rows * _ADDRESS_ROW_BYTES + SEED_BYTES


def _addresses_at(rows: int) -> int:
    """Where the counters and latencies end."""
    return (_pages(rows * len(METRICS)) + rows * _pages(EDGE_CELLS) + _pages(CONTROL_CELLS)) * CELL_BYTES


def _pages(cells: int) -> int:
    """`cells`, rounded up to whole pages."""
    return -(-cells // PAGE_CELLS) * PAGE_CELLS


def private_row() -> memoryview[int]:
    """A row that nobody else sees. For tests and single parts."""
    return memoryview(bytearray(len(METRICS) * CELL_BYTES)).cast("Q")
