"""`/metrics`: what all processes count and time, in Prometheus' text format.

One sample per worker, so that a worker that differs from the others can be seen; operations are of all processes
together, as their buckets would be too many. A worker that starts again counts
from zero; Prometheus takes that as the reset that it is.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.clock import Clock
from gateway.control.fleet import STATES, Fleet, worker_name
from gateway.control.latency import latency_report
from gateway.metrics import CounterTable, names
from gateway.metrics.histograms import total
from gateway.metrics.names import BEAT_MS, MEMORY_DRAINED_MS, METRICS, PID, READY, STARTED_S, Exposed

NOT_ONE_BY_ONE: Final = frozenset((PID, BEAT_MS, STARTED_S, READY, MEMORY_DRAINED_MS))
"""Cells that are exposed through what is derived from them, or are between workers."""


class WorkerCollector(Collector):
    """Reads the table when it is asked, not before."""

    def __init__(self, table: CounterTable, fleet: Fleet, clock: Clock) -> None:
        self._clock = clock
        self._table = table
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        yield from self._derived()
        yield from self._counted()
        yield self._totals()
        yield from self._recent()

    def _totals(self) -> Metric:
        """Operations since the start; also of workers that do not run any more, so that no sum ever goes back."""
        family = HistogramMetricFamily(
            names.OPERATION_SECONDS.name, names.OPERATION_SECONDS.help, labels=names.OPERATION_SECONDS.labels
        )
        rows = self._table.latency_rows()
        for number, operation in enumerate(names.OPERATIONS):
            found = total(rows, number)
            buckets = [
                (str(bound), float(count)) for bound, count in zip(names.BOUNDS_S, found.below_exposed(), strict=True)
            ]
            family.add_metric([operation.name], [*buckets, ("+Inf", float(found.count))], found.sum_ns / 1e9)
        return family

    def _recent(self) -> Iterator[Metric]:
        """The numbers of `latency_report`, of operations that happened."""
        seconds, counts = _gauge(names.RECENT_SECONDS), _gauge(names.RECENT_COUNT)
        for found in latency_report(self._table, self._clock.monotonic(), self._clock.time()).operations:
            counts.add_metric([found.operation], found.count)
            if found.count:
                for statistic in names.STATISTICS:
                    seconds.add_metric([found.operation, statistic], getattr(found, f"{statistic}_ms") / 1000)
        yield seconds
        yield counts

    def _counted(self) -> Iterator[Metric]:
        """The table of names, cell by cell; cells that differ in a label only are one metric."""
        rows = [(worker_name(slot), row.tolist()) for slot, row in self._table.live_rows()]
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for cell, metric in enumerate(METRICS):
            if cell in NOT_ONE_BY_ONE:
                continue
            labels = ["worker", metric.label] if metric.label else ["worker"]
            if (family := families.get(metric.name)) is None:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = families[metric.name] = kind(metric.name, metric.help, labels=labels)
            for name, cells in rows:
                family.add_metric([name, metric.value] if metric.label else [name], cells[cell])
        yield from families.values()

    def _derived(self) -> Iterator[Metric]:
        build = _gauge(names.BUILD_INFO)
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

        workers = self._fleet.workers()
        states = _gauge(names.WORKERS)
        for state in STATES:
            states.add_metric([state], sum(worker.state == state for worker in workers))
        yield states

        age = _gauge(names.HEARTBEAT_AGE)
        for worker in workers:
            if worker.state != "missing":
                age.add_metric([worker.name], worker.heartbeat_age_ms / 1000)
        yield age

        started = _gauge(names.START_TIME)
        for slot, row in self._table.live_rows():
            started.add_metric([worker_name(slot)], row[STARTED_S])
        yield started


def _gauge(metric: Exposed) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def metrics_router(table: CounterTable, fleet: Fleet, clock: Clock, *others: Collector) -> APIRouter:
    """`/metrics`. `others` are exposed behind the workers."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in (WorkerCollector(table, fleet, clock), *others):
        registry.register(collector)
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", summary="Counters of all workers, for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type, "cache-control": "no-store"})

    return router
