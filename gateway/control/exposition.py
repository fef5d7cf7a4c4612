"""`/metrics`: the counters of all workers in Prometheus' text format.

One sample per worker, so that a worker that differs from the others can be seen. A worker that starts again counts
from zero; Prometheus takes that as the reset that it is.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.control.fleet import STATES, Fleet, worker_name
from gateway.metrics import CounterTable
from gateway.metrics.names import BEAT_MS, MEMORY_DRAINED_MS, METRICS, PID, READY, STARTED_S

NOT_ONE_BY_ONE: Final = frozenset((PID, BEAT_MS, STARTED_S, READY, MEMORY_DRAINED_MS))
"""Cells that are exposed through what is derived from them, or are between workers."""


class WorkerCollector(Collector):
    """Reads the table when it is asked, not before."""

    def __init__(self, table: CounterTable, fleet: Fleet) -> None:
        self._table = table
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        yield from self._derived()
        yield from self._counted()

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
        build = GaugeMetricFamily("gateway_build_info", "Version of the gateway", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

        workers = self._fleet.workers()
        states = GaugeMetricFamily("gateway_workers", "Edge workers by state", labels=["state"])
        for state in STATES:
            states.add_metric([state], sum(worker.state == state for worker in workers))
        yield states

        age = GaugeMetricFamily(
            "gateway_worker_heartbeat_age_seconds", "Time since the event loop last moved", labels=["worker"]
        )
        for worker in workers:
            if worker.state != "missing":
                age.add_metric([worker.name], worker.heartbeat_age_ms / 1000)
        yield age

        started = GaugeMetricFamily(
            "gateway_worker_start_time_seconds", "Start of the worker, seconds since 1970-01-01 UTC", labels=["worker"]
        )
        for slot, row in self._table.live_rows():
            started.add_metric([worker_name(slot)], row[STARTED_S])
        yield started


def metrics_router(table: CounterTable, fleet: Fleet) -> APIRouter:
    """`/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerCollector(table, fleet))
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", summary="Counters of all workers, for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type, "cache-control": "no-store"})

    return router
