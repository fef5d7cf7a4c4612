"""Reading latencies: buckets of many slices and processes are added, and only then percentiles are computed.

Never the other way round: the average of two p99 is the p99 of nothing. What a row is, and why it may be read while it
is written, is in `gateway.metrics.latency`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import ceil, log
from typing import Final, NamedTuple

from gateway.metrics.latency import (
    AT_MS,
    BOUNDS,
    BUCKETS,
    CEILING_NS,
    CHANNEL_BYTES,
    DURATION_NS,
    MAX,
    OPERATION,
    SEQUENCE,
    SIZES,
    SLICES,
    SUM,
    UNDER,
    LatencyRow,
    period,
)
from gateway.metrics.names import BOUNDS_S


def nearest_bound(seconds: float) -> int:
    """Index in `BOUNDS` of the bound nearest to a duration; at most 2 % away within the range."""
    return min(range(len(BOUNDS)), key=lambda index: abs(log(BOUNDS[index] / seconds)))


EXPOSED: Final = tuple(nearest_bound(each) for each in BOUNDS_S)
"""The fine bounds that stand for those of `/metrics`."""


class SlowOperation(NamedTuple):
    """One operation that took long."""

    at_s: float
    """When it ended, seconds since 1970 UTC."""
    operation: int
    seconds: float
    channel: str
    """"" = none, or not known."""
    user: str


class Histogram:
    """Added buckets: of some slices, some processes. A plain value of the reader's own."""

    __slots__ = ("buckets", "longest_ns", "shortest_ns", "sum_ns")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.sum_ns = 0
        self.shortest_ns = CEILING_NS
        self.longest_ns = 0

    @property
    def count(self) -> int:
        return sum(self.buckets) if self.sum_ns else 0

    @property
    def average_s(self) -> float:
        """0 when there is nothing."""
        count = self.count
        return self.sum_ns / count / 1e9 if count else 0.0

    def add(self, cells: list[int]) -> None:
        """Add what one histogram of a row held."""
        if not cells[SUM]:
            return
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, cells, strict=False)]
        self.sum_ns += cells[SUM]
        if cells[MAX]:
            self.longest_ns = max(self.longest_ns, cells[MAX])
        if cells[UNDER]:
            self.shortest_ns = min(self.shortest_ns, CEILING_NS - cells[UNDER])

    def percentile_s(self, share: float) -> float:
        """One of `percentiles_s`."""
        return self.percentiles_s((share,))[0]

    def percentiles_s(self, shares: Sequence[float]) -> list[float]:
        """The durations that these shares (0 … 1) of all do not exceed, within 2 %; 0 when there is nothing.

        Nearest rank: of 100 durations p99 is the 99th. Needs a shortest and a longest: not for totals.
        """
        if not self.sum_ns:
            return [0.0] * len(shares)
        reached = list(accumulate(self.buckets))
        return [self._middle_s(bisect_left(reached, max(1, ceil(share * reached[-1])))) for share in shares]

    def _middle_s(self, bucket: int) -> float:
        middle_s: float = (BOUNDS[max(0, bucket - 1)] * BOUNDS[min(bucket, len(BOUNDS) - 1)]) ** 0.5
        if bucket == 0:
            middle_s = 0.0
        elif bucket == BUCKETS - 1:
            middle_s = self.longest_ns / 1e9
        return min(max(middle_s, self.shortest_ns / 1e9), self.longest_ns / 1e9)

    def below_exposed(self) -> list[int]:
        """How many took less than each of `BOUNDS_S`, or than the bound of the fine bucket nearest to it."""
        reached = list(accumulate(self.buckets))
        return [reached[bound] for bound in EXPOSED]


def recent(rows: Iterable[LatencyRow], operation: int, monotonic_s: float) -> Histogram:
    """The window of one operation, of all `rows` that have it, as it is now."""
    found = Histogram()
    now = period(monotonic_s)
    for row in rows:
        if operation not in row.operations:
            continue
        index = operation - row.operations.start
        for slot, start in enumerate(row.starts.tolist()):
            if now - SLICES < start <= now:
                cells = row.slices[slot][index].tolist()
                if row.starts[slot] == start:  # else it was emptied meanwhile
                    found.add(cells)
    return found


def total(rows: Iterable[LatencyRow], operation: int) -> Histogram:
    """One operation since the start, of all `rows` that have it. Without shortest and longest."""
    found = Histogram()
    for row in rows:
        if operation in row.operations:
            found.add(row.totals[operation - row.operations.start].tolist())
    return found


def slow_operations(row: LatencyRow) -> list[SlowOperation]:
    """The slow records of a row, in no order. One that is just being written is left out."""
    found = []
    for record, text in zip(row.slow, row.texts, strict=True):
        cells, texts = record.tolist(), bytes(text)
        if cells[SEQUENCE] == 0 or cells[SEQUENCE] % 2 or record[SEQUENCE] != cells[SEQUENCE]:
            continue
        channel, user = cells[SIZES] >> 16, cells[SIZES] & 0xFFFF
        found.append(
            SlowOperation(
                cells[AT_MS] / 1000,
                cells[OPERATION],
                cells[DURATION_NS] / 1e9,
                texts[:channel].decode(errors="replace"),
                texts[CHANNEL_BYTES : CHANNEL_BYTES + user].decode(errors="replace"),
            )
        )
    return found
