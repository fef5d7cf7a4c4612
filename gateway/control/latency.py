"""`latency`: how long operations take, and which were slow, in all processes of this gateway.

`latency_report` is the one place where these numbers are made: the API method, `/metrics` and the dashboard show what
it gives. The rule that is easiest to break: buckets of processes are added first, percentiles come after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nlargest
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.control.fleet import worker_name
from gateway.control.methods import Method
from gateway.metrics import CounterTable, LatencyRecorder, names
from gateway.metrics.histograms import Histogram, SlowOperation, recent, slow_operations
from gateway.metrics.latency import SLOW_KEPT_S, SLOW_RECORDS, WINDOW_S

CONTROL_NAME: Final = "control"
SHARED_S: Final = 0.1
"""Age at which a report is too old for `info`: of a hundred backends that call it at once, 99 waited for reports."""


class OperationLatency(msgspec.Struct, frozen=True):
    """One operation within the window. Without any there are only zeros. Percentiles are within 2 %."""

    operation: str
    count: int
    avg_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float


class SlowEntry(msgspec.Struct, frozen=True):
    """One operation that took `metrics.slow_ms` or longer."""

    time: float
    """When it ended, seconds since 1970 UTC."""
    operation: str
    duration_ms: float
    process: str
    """`edge-1` …, or `control`."""
    channel: str
    """"" = none, or not known. Long names are cut."""
    user: str


class LatencyReport(msgspec.Struct, frozen=True):
    """All operations, in the order of the table of names, and the slowest of the last hour, slowest first."""

    window_s: float
    """The counts are those of this time before now, and of a sixth less at least."""
    operations: list[OperationLatency]
    slow: list[SlowEntry]


class LatencyRequest(msgspec.Struct):
    """Nothing can be asked for: a report is small."""


def latency_report(table: CounterTable, monotonic_s: float, wall_s: float) -> LatencyReport:
    """What `table` says at this moment. Reads memory, and nothing else."""
    rows = table.latency_rows()
    operations = [
        operation_latency(operation.name, recent(rows, number, monotonic_s))
        for number, operation in enumerate(names.OPERATIONS)
    ]
    found = (
        (each, worker_name(index // table.generations) if index < table.rows else CONTROL_NAME)
        for index, row in enumerate(rows)
        for each in slow_operations(row)
        if each.at_s > wall_s - SLOW_KEPT_S and each.operation < len(names.OPERATIONS)
    )
    return LatencyReport(WINDOW_S, operations, _slowest(found))


def operation_latency(name: str, histogram: Histogram) -> OperationLatency:
    """The statistics of one operation, in milliseconds."""
    count = histogram.count
    return OperationLatency(
        name,
        count,
        _ms(histogram.average_s),
        _ms(histogram.shortest_ns / 1e9) if count else 0.0,
        _ms(histogram.longest_ns / 1e9),
        *map(_ms, histogram.percentiles_s((0.5, 0.9, 0.95, 0.99))),
    )


class SharedReport:
    """One `latency_report` for all who ask within `SHARED_S`: to make one is to read every bucket of every process."""

    __slots__ = ("_clock", "_made_s", "_report", "_table")

    def __init__(self, table: CounterTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._report: LatencyReport | None = None
        self._made_s = 0.0

    def __call__(self) -> LatencyReport:
        now_s = self._clock.monotonic()
        if self._report is None or now_s >= self._made_s + SHARED_S:
            self._report, self._made_s = latency_report(self._table, now_s, self._clock.time()), now_s
        return self._report


def latency_method(table: CounterTable, clock: Clock) -> Method[LatencyRequest]:
    """The API method."""

    async def call(_request: LatencyRequest) -> LatencyReport:
        return latency_report(table, clock.monotonic(), clock.time())

    return Method("latency", "How long operations take, and which were slow", LatencyRequest, LatencyReport, call)


def api_timer(recorder: LatencyRecorder | None, clock: Clock) -> Callable[[str, float], None]:
    """Records the time of API calls in the row of the control process."""

    def timed(method: str, seconds: float) -> None:
        if recorder is not None:
            recorder.tick(clock.monotonic(), clock.time())
            recorder.record(names.API_OPERATIONS.get(method, names.API_OPERATIONS["other"]), seconds)

    return timed


def _slowest(found: Iterable[tuple[SlowOperation, str]]) -> list[SlowEntry]:
    return [
        SlowEntry(each.at_s, names.OPERATIONS[each.operation].name, _ms(each.seconds), process, each.channel, each.user)
        for each, process in nlargest(SLOW_RECORDS, found, key=lambda entry: entry[0].seconds)
    ]


def _ms(seconds: float) -> float:
    """Milliseconds, rounded to a microsecond's hundredth."""
    return round(seconds * 1000, 5)
