"""`/metrics`, read with the parsers that Prometheus' own client has."""

from __future__ import annotations

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway import __version__
from gateway.metrics import names
from gateway.metrics.names import METRICS
from tests.control.conftest import Control

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: httpx.AsyncClient) -> Samples:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: Samples = {}
    for family in parse_text(answer.text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_each_worker_has_its_own_sample(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)[names.CONNECTIONS] = 5
    second = control.start_worker(1)
    second[names.CONNECTIONS] = 7
    second[names.DELIVERIES] = 2**60
    second[names.DROPPED_SLOW] = 3
    samples = await scrape(client)
    assert samples[key("gateway_connections", worker="edge-1")] == 5
    assert samples[key("gateway_connections", worker="edge-2")] == 7
    assert samples[key("gateway_deliveries_total", worker="edge-2")] == 2**60
    assert samples[key("gateway_dropped_total", worker="edge-2", reason="slow_consumer")] == 3
    assert samples[key("gateway_dropped_total", worker="edge-2", reason="too_large")] == 0


async def test_every_metric_of_the_table_is_exposed_once(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)
    samples = await scrape(client)
    for cell, metric in enumerate(METRICS):
        if cell in (names.PID, names.BEAT_MS, names.STARTED_S, names.READY, names.MEMORY_DRAINED_MS):
            continue
        labels = {"worker": "edge-1"} | ({metric.label: metric.value} if metric.label else {})
        assert key(metric.name + ("_total" if metric.kind == "counter" else ""), **labels) in samples


async def test_workers_by_state_and_build(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)
    control.clock.advance(1.5)
    samples = await scrape(client)
    assert samples[key("gateway_workers", state="ready")] == 1
    assert samples[key("gateway_workers", state="missing")] == 1
    assert samples[key("gateway_workers", state="stuck")] == 0
    assert samples[key("gateway_worker_heartbeat_age_seconds", worker="edge-1")] == 1.5
    assert samples[key("gateway_worker_start_time_seconds", worker="edge-1")] == 1_700_000_000
    assert any(name == "gateway_build_info" and ("version", __version__) in labels for name, labels in samples)


async def test_workers_that_do_not_run_have_no_samples(control: Control, client: httpx.AsyncClient) -> None:
    assert not [name for name, labels in await scrape(client) if "worker" in dict(labels)]


async def test_openmetrics_is_spoken_to_those_who_ask(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert any(family.name == "gateway_deliveries" for family in parse_openmetrics(answer.text))
