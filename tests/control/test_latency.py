"""`POST /api/latency` and the operations in `/metrics`: the same numbers, of all processes together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.control.latency import SHARED_S, SharedReport
from gateway.metrics import names
from tests.control.conftest import Control
from tests.control.test_exposition import key, scrape


async def report(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/api/latency", json={})
    assert answer.status_code == 200
    result: dict[str, Any] = answer.json()["result"]
    return result


async def operation(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    (found,) = [each for each in (await report(client))["operations"] if each["operation"] == name]
    return found  # type: ignore[no-any-return]


async def test_every_operation_is_there_once_also_when_it_never_happened(client: httpx.AsyncClient) -> None:
    found = await report(client)
    assert [each["operation"] for each in found["operations"]] == [each.name for each in names.OPERATIONS]
    connect = found["operations"][0]
    assert connect == {"operation": "connect", "count": 0} | {f"{each}_ms": 0.0 for each in names.STATISTICS}
    assert found["slow"] == []
    assert found["window_s"] == 60


async def test_workers_are_added_before_percentiles_are_computed(control: Control, client: httpx.AsyncClient) -> None:
    """The average of both workers' p90 would be 500.5 ms."""
    fast, slow = control.recorder(0), control.recorder(1)
    for _ in range(98):
        fast.record(names.OP_PUBLISH, 0.001)
    for _ in range(2):
        slow.record(names.OP_PUBLISH, 1.0)
    found = await operation(client, "publish")
    assert found["count"] == 100
    assert found["avg_ms"] == pytest.approx(20.98)
    assert (found["min_ms"], found["max_ms"]) == (1.0, 1000.0)
    assert found["p50_ms"] == found["p95_ms"] == pytest.approx(1.0, rel=0.02)
    assert found["p99_ms"] == pytest.approx(1000.0, rel=0.02)


async def test_metrics_show_the_same_numbers(control: Control, client: httpx.AsyncClient) -> None:
    recorder = control.recorder(0)
    for number in range(1, 300):
        recorder.record(names.OP_BROADCAST, number / 1000)
    found = await operation(client, "broadcast")
    samples = await scrape(client)
    for each in names.STATISTICS:
        shown = samples[key("gateway_operation_recent_seconds", operation="broadcast", statistic=each)]
        assert shown == pytest.approx(found[f"{each}_ms"] / 1000)
    assert samples[key("gateway_operation_recent_count", operation="broadcast")] == found["count"] == 299


async def test_histograms_have_a_bucket_for_200_ms(control: Control, client: httpx.AsyncClient) -> None:
    one, other = control.recorder(0), control.recorder(1)
    for recorder in (one, other):
        for seconds in (0.00001, 0.19, 0.21, 90.0):
            recorder.record(names.OP_CONNECT, seconds)
    samples = await scrape(client)

    def below(bound: str) -> float:
        return samples[key("gateway_operation_seconds_bucket", operation="connect", le=bound)]

    assert (below("0.0002"), below("0.1"), below("0.2"), below("0.5"), below("20.0")) == (2, 2, 4, 6, 6)
    assert below("+Inf") == samples[key("gateway_operation_seconds_count", operation="connect")] == 8
    assert samples[key("gateway_operation_seconds_sum", operation="connect")] == pytest.approx(2 * 90.40001)
    assert samples[key("gateway_operation_seconds_count", operation="rpc")] == 0


async def test_label_values_come_from_the_table_only(control: Control, client: httpx.AsyncClient) -> None:
    control.recorder(0).record(names.OP_HISTORY, 5.0, "secret-channel", "secret-user")
    text = (await client.get("/metrics")).text
    assert "secret" not in text
    operations = {dict(labels)["operation"] for name, labels in await scrape(client) if name.startswith("gateway_oper")}
    assert operations == {each.name for each in names.OPERATIONS}


async def test_the_window_ends_and_the_totals_stay(control: Control, client: httpx.AsyncClient) -> None:
    control.recorder(0).record(names.OP_RPC, 0.1)
    control.clock.advance(61)
    assert (await operation(client, "rpc"))["count"] == 0
    samples = await scrape(client)
    assert samples[key("gateway_operation_seconds_count", operation="rpc")] == 1
    assert samples[key("gateway_operation_recent_count", operation="rpc")] == 0


async def test_the_slowest_of_all_processes_come_first_with_what_is_known(
    control: Control, client: httpx.AsyncClient
) -> None:
    for slot in (0, 1):
        for number in range(40):
            control.recorder(slot).record(names.OP_HISTORY, 1 + slot + number / 100, f"c{number}", "42")
    control.latency.record(names.API_OPERATIONS["publish"], 9.0)
    slow = (await report(client))["slow"]
    assert len(slow) == 50
    assert slow[0] == {
        "time": control.clock.time(),
        "operation": "api_publish",
        "duration_ms": 9000.0,
        "process": "control",
        "channel": "",
        "user": "",
    }
    assert slow[1]["process"] == "edge-2"
    assert (slow[1]["operation"], slow[1]["channel"], slow[1]["user"]) == ("history", "c39", "42")
    assert [each["duration_ms"] for each in slow] == sorted((each["duration_ms"] for each in slow), reverse=True)
    control.clock.advance(3601)
    assert (await report(client))["slow"] == []


async def test_a_shared_report_is_that_of_a_moment_ago_at_most(control: Control, client: httpx.AsyncClient) -> None:
    shared = SharedReport(control.table, control.clock)

    def published() -> int:
        return {each.operation: each.count for each in shared().operations}["api_publish"]

    assert published() == 0
    await client.post("/api/publish", json={"channel": "chat:x", "data": 1})
    assert published() == 0
    control.clock.advance(SHARED_S)
    assert published() == 1


async def test_calls_of_the_api_are_timed_by_method_also_those_that_fail(
    control: Control, client: httpx.AsyncClient
) -> None:
    await client.post("/api/publish", json={"channel": "chat:x", "data": 1})
    await client.post("/api/publish", json={"channel": ""})
    await client.post("/api/publish", json={}, headers={"X-API-Key": "wrong"})
    await client.post("/api/nothing", json={})
    found = await operation(client, "api_publish")
    assert found["count"] == 2
    assert found["max_ms"] > 0
    assert (await operation(client, "api_latency"))["count"] == 1
    assert (await operation(client, "api_other"))["count"] == 0


async def test_who_has_no_key_sees_no_names(control: Control) -> None:
    async with control.client(key=None) as client:
        assert (await client.post("/api/latency", json={})).status_code == 401


async def test_nothing_is_timed_when_nobody_wants_to_know(make_control: Callable[..., Control]) -> None:
    from gateway.control.latency import api_timer

    control = make_control()
    api_timer(None, control.clock)("publish", 1.0)
    async with control.client() as client:
        assert (await operation(client, "api_publish"))["count"] == 0
