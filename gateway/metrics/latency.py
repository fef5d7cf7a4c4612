"""How long things take: histograms in shared memory, written by one process, read by another at any moment.

Theory of operation. A duration falls into one of `BUCKETS` buckets whose bounds grow by 3.9 % (60 a decade, 1 µs to a
minute), so that the middle of a bucket is within 2 % of everything in it. Each operation has a histogram since the
start (`totals`) and `SLICES` of `SLICE_S` seconds each, used in turn: the newest of them together are the window, the
last 50 to 60 seconds. `gateway.metrics.histograms` adds and reads them. Beside them a row keeps the slowest operations
above a threshold, one fixed-size record each.

A row has one writer and takes no lock. A reader may see a duration counted in one cell and not yet in the next: off by
one for a moment. What must not be mixed is marked: a slice has its number before and after it is read, a slow record
a sequence number that is odd while it is being written.

The rule that is easiest to break: `record` finds the current slice where `tick` has put it. Whoever records calls
`tick` about once a second. Measured cost of a record: 0.6 µs (Python 3.11).

Memory of a row: operations × (SLICES + 1) × 3.8 KB + 21 KB of slow records; 305 KiB for an edge worker, 486 KiB for
the control process.
"""

from __future__ import annotations

from math import log
from typing import Final

from gateway.metrics.names import CONTROL_OPERATIONS, EDGE_OPERATIONS

PER_DECADE: Final = 60
"""Buckets between a duration and its tenfold. 10^(1/60) = 1.039: the middle is at most 1.94 % away from either end."""
ANCHOR_S: Final = 0.2
"""A bound that is exact, because people ask for it."""
BELOW: Final = 319
"""Bounds below the anchor: the lowest is 0.97 µs."""
ABOVE: Final = 149
"""Bounds above the anchor: the highest is 60.9 s."""
BUCKETS: Final = BELOW + ABOVE + 2
"""The first is for everything shorter than the lowest bound, the last for everything longer than the highest."""
BOUNDS: Final = tuple(ANCHOR_S * 10 ** (step / PER_DECADE) for step in range(-BELOW, ABOVE + 1))
"""In seconds; bucket `i` is for durations from `BOUNDS[i - 1]` to less than `BOUNDS[i]`."""

SLICE_S: Final = 10.0
SLICES: Final = 6
WINDOW_S: Final = SLICE_S * SLICES
"""The window is this long at most, and a slice shorter at least."""

SUM: Final = BUCKETS
"""Cell of a histogram, after its buckets: sum of all durations, nanoseconds."""
MAX: Final = BUCKETS + 1
"""Longest, nanoseconds; of a slice only."""
UNDER: Final = BUCKETS + 2
"""`CEILING_NS` minus the shortest: so zero means that there is none. Of a slice only."""
WIDTH: Final = BUCKETS + 3
CEILING_NS: Final = 2**62

SLOW_RECORDS: Final = 50
"""Slow operations that a row keeps."""
SLOW_KEPT_S: Final = 3600.0
"""Time after which a slow operation gives way to any other."""
CHANNEL_BYTES: Final = 256
"""Room for a channel's name; a longer one is cut."""
USER_BYTES: Final = 128
SEQUENCE, AT_MS, OPERATION, DURATION_NS, SIZES, TEXT = range(6)
"""Cells of a slow record. At 0 it is empty; `SIZES` has the length of both texts, of the channel × 65,536."""
RECORD: Final = TEXT + (CHANNEL_BYTES + USER_BYTES) // 8

_SCALE: Final = PER_DECADE / log(10)
_SHIFT: Final = 1.0 - log(BOUNDS[0]) * _SCALE
_LOWEST: Final = BOUNDS[0]
_HIGHEST: Final = BOUNDS[-1]


class LatencyRow:
    """The memory of one process, cut into its parts."""

    __slots__ = ("operations", "slices", "slow", "starts", "texts", "totals")

    def __init__(self, cells: memoryview[int], operations: range) -> None:
        """`cells`: `size(operations)` of them, unsigned, 64 bits each."""
        self.operations = operations
        width = len(operations) * WIDTH
        self.starts = cells[:SLICES]
        """Number of the period that each slice is of; 0 = none."""
        self.slices = [
            [_part(cells, SLICES + slot * width, index) for index in range(len(operations))] for slot in range(SLICES)
        ]
        self.totals = [_part(cells, SLICES + SLICES * width, index) for index in range(len(operations))]
        records = SLICES + (SLICES + 1) * width
        self.slow = [cells[records + each * RECORD : records + (each + 1) * RECORD] for each in range(SLOW_RECORDS)]
        self.texts = [record[TEXT:].cast("B") for record in self.slow]

    @staticmethod
    def size(operations: range) -> int:
        """Cells that a row for these operations has."""
        return SLICES + len(operations) * WIDTH * (SLICES + 1) + SLOW_RECORDS * RECORD

    @classmethod
    def private(cls, operations: range = EDGE_OPERATIONS) -> LatencyRow:
        """A row that nobody else sees. For tests and single parts."""
        return cls(memoryview(bytearray(cls.size(operations) * 8)).cast("Q"), operations)


def _part(cells: memoryview[int], start: int, index: int) -> memoryview[int]:
    return cells[start + index * WIDTH : start + (index + 1) * WIDTH]


EDGE_CELLS: Final = LatencyRow.size(EDGE_OPERATIONS)
CONTROL_CELLS: Final = LatencyRow.size(CONTROL_OPERATIONS)


def period(monotonic_s: float) -> int:
    """Number of the slice's worth of time that a moment is in; never 0."""
    return int(monotonic_s / SLICE_S) + 1


class LatencyRecorder:
    """The writer of one row."""

    __slots__ = ("_bar_ns", "_none", "_period", "_row", "_slow_s", "_totals", "_wall_s", "_window")

    def __init__(self, row: LatencyRow, monotonic_s: float, wall_s: float, *, slow_s: float) -> None:
        """Go on from what the row has: the totals and slow operations of the process before this one stay.

        `slow_s`: what takes this long or longer is kept as a record of its own. Times as for `tick`.
        """
        self._row = row
        self._slow_s = slow_s
        self._period = 0
        self._wall_s = 0.0
        self._bar_ns = 0
        """Slow operations that are no slower find no place; 0 = not known."""
        self._none = memoryview(bytes(WIDTH * 8)).cast("Q")
        absent = memoryview(bytearray()).cast("Q")
        lead: list[memoryview[int]] = [absent] * row.operations.start
        self._totals = lead + row.totals
        self._window = lead
        for record in row.slow:
            if record[SEQUENCE] % 2:  # its writer died over it
                record[SEQUENCE] = 0
        self.tick(monotonic_s, wall_s)

    def tick(self, monotonic_s: float, wall_s: float) -> None:
        """Say what time it is: `monotonic_s` on the clock that all processes share, `wall_s` since 1970 UTC."""
        self._wall_s = wall_s
        now = period(monotonic_s)
        if now == self._period:
            return
        self._period = now
        self._bar_ns = 0
        row, slot = self._row, now % SLICES
        lead = self._totals[: row.operations.start]
        self._window = lead + row.slices[slot]
        if row.starts[slot] != now:
            row.starts[slot] = 0
            for part in row.slices[slot]:
                if part[MAX]:
                    part[:] = self._none
            row.starts[slot] = now

    def record(self, operation: int, seconds: float, channel: str = "", user: str = "") -> None:
        """Count one operation, a constant `OP_…` of `gateway.metrics.names` that this row has, with its duration.

        `channel` and `user` are kept if it was slow.
        """
        window, total = self._window[operation], self._totals[operation]
        if seconds < _LOWEST:
            bucket = 0
            seconds = max(seconds, 1e-9)
        elif seconds < _HIGHEST:
            bucket = int(log(seconds) * _SCALE + _SHIFT)
        else:
            bucket = BUCKETS - 1
        nanoseconds = int(seconds * 1e9)
        window[bucket] += 1
        total[bucket] += 1
        window[SUM] += nanoseconds
        total[SUM] += nanoseconds
        if nanoseconds > window[MAX]:  # noqa: PLR1730 - half the time of max()
            window[MAX] = nanoseconds
        if CEILING_NS - nanoseconds > window[UNDER]:  # noqa: PLR1730
            window[UNDER] = CEILING_NS - nanoseconds
        if seconds >= self._slow_s:
            self._keep(operation, seconds, channel, user)

    def _keep(self, operation: int, seconds: float, channel: str, user: str) -> None:
        """Write a slow record over an empty one, else over one that is old, else over the least slow of all."""
        nanoseconds = int(seconds * 1e9)
        if nanoseconds <= self._bar_ns:
            return
        now_ms = int(self._wall_s * 1000)
        oldest_ms = now_ms - int(SLOW_KEPT_S * 1000)
        self._bar_ns, place = min(
            (record[DURATION_NS] if record[SEQUENCE] and record[AT_MS] > oldest_ms else 0, place)
            for place, record in enumerate(self._row.slow)
        )
        if nanoseconds <= self._bar_ns:
            return
        record, text = self._row.slow[place], self._row.texts[place]
        channel_text, user_text = cut(channel, CHANNEL_BYTES), cut(user, USER_BYTES)
        sequence = record[SEQUENCE]
        record[SEQUENCE] = sequence + 1
        record[AT_MS] = now_ms
        record[OPERATION] = operation
        record[DURATION_NS] = nanoseconds
        record[SIZES] = len(channel_text) << 16 | len(user_text)
        text[: len(channel_text)] = channel_text
        text[CHANNEL_BYTES : CHANNEL_BYTES + len(user_text)] = user_text
        record[SEQUENCE] = sequence + 2


def cut(text: str, size: int) -> bytes:
    """`text` in UTF-8, at most `size` bytes, cut between two characters."""
    return text.encode(errors="replace")[:size].decode(errors="ignore").encode()
