"""What the relays have done, for `/metrics` and the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metrics import names
from gateway.metrics.names import Exposed
from gateway.relay.counters import Counted, IngestReport, OutboxReport, RelayReports

OUTBOX_RESULTS: Final = ("published", "retried", "dead")
INGEST_RESULTS: Final = (*OUTBOX_RESULTS, "dropped")


class PoolState(msgspec.Struct, frozen=True):
    """Connections to the database."""

    size: int
    checked_in: int
    checked_out: int
    overflow: int
    waiting: int


class RelayState(msgspec.Struct, frozen=True):
    """One relay on the dashboard."""

    source: str
    """`outbox` or `ingest`."""
    state: str
    """`relaying`, `standing by` (another node relays the stream), or `in trouble`."""
    trouble: str
    waiting: int | None
    """None, as in `oldest_s` and `dead_now`: the database cannot be asked."""
    oldest_s: float | None
    published: int
    retried: int
    dead: int
    dead_now: int | None
    """Dead letters in the table."""
    dropped: int
    pool: PoolState | None


def relay_states(reports: RelayReports) -> list[RelayState]:
    """Those that there are."""
    found = []
    if (outbox := reports.outbox) is not None:
        figures = outbox.figures
        found.append(
            _state(
                "outbox",
                outbox,
                state="in trouble" if outbox.trouble else "relaying",
                waiting=figures.waiting if figures else None,
                oldest_s=figures.oldest_s if figures else None,
                dead_now=figures.dead if figures else None,
                pool=PoolState(**outbox.pool._asdict()) if outbox.pool else None,
            )
        )
    if (ingest := reports.ingest) is not None:
        state = "in trouble" if ingest.trouble else "relaying" if ingest.active else "standing by"
        found.append(_state("ingest", ingest, state=state, waiting=ingest.waiting, oldest_s=ingest.oldest_s))
    return found


def _state(
    source: str,
    report: OutboxReport | IngestReport,
    *,
    state: str,
    waiting: int | None,
    oldest_s: float | None,
    dead_now: int | None = 0,
    pool: PoolState | None = None,
) -> RelayState:
    counted = report.counted
    return RelayState(
        source=source,
        state=state,
        trouble=report.trouble,
        waiting=waiting,
        oldest_s=None if oldest_s is None else round(oldest_s, 3),
        published=counted.published,
        retried=counted.retried,
        dead=counted.dead,
        dead_now=dead_now,
        dropped=counted.dropped,
        pool=pool,
    )


class RelayCollector(Collector):
    """Reads the reports when it is asked. A relay that there is not has no samples."""

    def __init__(self, reports: RelayReports) -> None:
        self._reports = reports

    def collect(self) -> Iterable[Metric]:
        if self._reports.outbox is not None:
            yield from self._outbox(self._reports.outbox)
        if (ingest := self._reports.ingest) is not None:
            yield _results(names.INGEST_ENTRIES, ingest.counted, INGEST_RESULTS)
            yield _gauge(names.INGEST_WAITING, ingest.waiting)
            yield _gauge(names.INGEST_OLDEST, ingest.oldest_s)
            yield _gauge(names.INGEST_ACTIVE, int(ingest.active))

    def _outbox(self, report: OutboxReport) -> Iterator[Metric]:
        yield _results(names.OUTBOX_ROWS, report.counted, OUTBOX_RESULTS)
        yield _gauge(names.OUTBOX_UP, int(not report.trouble))
        if report.figures is not None:  # else nobody knows, and 0 would be wrong
            yield _gauge(names.OUTBOX_WAITING, report.figures.waiting)
            yield _gauge(names.OUTBOX_DEAD, report.figures.dead)
            yield _gauge(names.OUTBOX_OLDEST, report.figures.oldest_s)
        if report.pool is not None:
            pool = GaugeMetricFamily(names.SQL_POOL.name, names.SQL_POOL.help, labels=names.SQL_POOL.labels)
            for state, connections in report.pool._asdict().items():
                pool.add_metric([state], connections)
            yield pool


def _results(metric: Exposed, counted: Counted, results: Iterable[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for result in results:
        family.add_metric([result], getattr(counted, result))
    return family


def _gauge(metric: Exposed, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, value=value)
