"""Latencies of a whole gateway, and readiness while Redis is silent for a moment and for longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.features.conftest import OpenClient
from tests.support.gateway import Gateway, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until

CONFIG = {
    "server": {"workers": 2},
    "metrics": {"slow_ms": 1},
    "namespaces": {"default": {"publish_by": "anyone", "history_size": 100, "history_ttl_s": 60, "presence": True}},
}
TIMES = {"connect_timeout_s": 1.0, "probe_interval_s": 1.0, "canary_interval_s": 0.3}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    with serving(CONFIG | {"redis": {"url": server.url} | TIMES}) as gateway:
        yield gateway


def operations(gateway: Gateway) -> dict[str, dict[str, Any]]:
    result = gateway.call_api("latency").json()["result"]
    return {each["operation"]: each for each in result["operations"]}


async def test_what_clients_do_is_timed_in_whichever_worker_they_are(gateway: Gateway, open_client: OpenClient) -> None:
    before = operations(gateway)
    clients = [await open_client(f"user-{number}") for number in range(6)]
    for client in clients:
        await client.subscribe("news")
    assert await clients[0].call(publish={"channel": "news", "data": "hello"}) == {}
    for client in clients:
        await client.wait(lambda client=client: "hello" in client.data("news"), "the publication arrives")
    await clients[1].call(history={"channel": "news", "limit": 1})
    await clients[2].call(presence={"channel": "news"})
    assert gateway.call_api("publish", channel="news", data=1).status_code == 200

    def all_are_there() -> bool:
        now = operations(gateway)
        more = {name: now[name]["count"] - before[name]["count"] for name in now}
        return (
            more["connect"] == more["subscribe"] == 6
            and more["publish"] == more["history"] == more["presence"] == 1
            and more["api_publish"] == 1
            and more["publish_to_socket"] == 1
            and more["broadcast"] >= 1
            and min(more["redis_round_trip"], more["redis_canary"], more["loop_lag"]) >= 1
        )

    await wait_until(all_are_there, "every operation is counted")
    for found in operations(gateway).values():
        assert found["min_ms"] <= found["p50_ms"] <= found["p90_ms"] <= found["p95_ms"] <= found["p99_ms"]
        assert found["p99_ms"] <= found["max_ms"]
    assert gateway.metric("gateway_operation_seconds_count", operation="connect") == 6
    assert gateway.metric("gateway_operation_seconds_bucket", operation="connect", le="0.2") <= 6


async def test_a_slow_command_is_listed_with_its_channel_and_user(
    gateway: Gateway, server: RedisServer, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    await client.subscribe("slow-one")
    server.freeze()
    try:
        asking = asyncio.create_task(client.command(history={"channel": "slow-one", "limit": 1}))
        await asyncio.sleep(0.3)  # how slow it is, not how long we wait
    finally:
        server.thaw()
    await asking

    def listed() -> bool:
        return any(
            (each["operation"], each["channel"], each["user"]) == ("history", "slow-one", "ada")
            and each["duration_ms"] >= 200
            and each["process"] == gateway.worker_of(client.id)
            and abs(each["time"] - time.time()) < 60
            for each in gateway.call_api("latency").json()["result"]["slow"]
        )

    await wait_until(listed, "the slow command is listed")


async def test_redis_falls_silent_and_workers_stay_ready_until_five_canaries_are_lost(
    gateway: Gateway, server: RedisServer
) -> None:
    await wait_until(lambda: gateway.ready() == (200, "ready\n"), "ready")
    begun = time.monotonic()
    server.freeze()
    try:
        await wait_until(lambda: gateway.ready()[0] == 503, "not ready")
        silent_s = time.monotonic() - begun
    finally:
        server.thaw()
    assert silent_s > 4 * TIMES["canary_interval_s"], "a blip is no reason"
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 2, "both are ready again")
    assert gateway.logged("canary is lost: not ready")
    assert gateway.logged("canary is back")


def test_without_latencies_nothing_is_timed() -> None:
    with serving({"metrics": {"latency": False}}) as gateway:
        assert all(each["count"] == 0 for each in operations(gateway).values())
        assert gateway.ready() == (200, "ready\n")
