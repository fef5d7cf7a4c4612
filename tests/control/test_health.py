"""Health of the fleet, from counters alone."""

from __future__ import annotations

import httpx

from gateway.metrics.names import CONNECTIONS, LISTENING, PID, READY, REDIS_CONNECTED
from tests.control.conftest import Control


async def test_live_needs_no_worker_and_no_key(control: Control) -> None:
    async with control.client(key=None) as client:
        answer = await client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})


async def test_all_workers_ready(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)[CONNECTIONS] = 3
    control.start_worker(1)[CONNECTIONS] = 4
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "workers": 2,
        "workers_expected": 2,
        "connections": 7,
        "problems": [],
    }


async def test_missing_worker_makes_it_degraded(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    view = answer.json()
    assert (view["status"], view["workers"]) == ("degraded", 1)
    assert view["problems"] == ["edge-2 is not running"]


async def test_stuck_worker_is_not_ready_whatever_it_once_said(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)
    control.clock.advance(7)
    control.start_worker(1)
    view = (await client.get("/health/ready")).json()
    assert (view["status"], view["workers"]) == ("degraded", 1)
    assert view["problems"] == ["edge-1 has not moved for 7 s"]


async def test_lost_redis_is_degraded_and_503(control: Control, client: httpx.AsyncClient) -> None:
    for slot in (0, 1):
        row = control.start_worker(slot)
        row[READY] = row[REDIS_CONNECTED] = 0
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["status"] == "degraded"
    assert answer.json()["problems"] == ["edge-1 has no connection to Redis", "edge-2 has no connection to Redis"]


async def test_full_worker_says_so(control: Control, client: httpx.AsyncClient) -> None:
    control.start_worker(0)
    row = control.start_worker(1)
    row[READY] = row[LISTENING] = 0
    assert "full" in (await client.get("/health/ready")).json()["problems"][0]


async def test_no_worker_is_unavailable(control: Control, client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    control.start_worker(0)
    control.start_worker(1)[PID] = 0
    assert (await client.get("/health/ready")).status_code == 200
