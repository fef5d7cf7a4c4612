"""The control process as the supervisor runs it, without Redis and without edge workers."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.config import Config
from gateway.metrics import CounterTable
from gateway.processes import WorkerSpec
from gateway.supervisor.worker import Worker
from loadtest.bench.processes import free_port

KEY = "test-key-0123456789"
DEADLINE_S = 30.0


class ControlProcess:
    """One control process, and where it listens."""

    def __init__(self, table: CounterTable, port: int) -> None:
        config = Config.model_validate(
            {
                "server": {"workers": 1},
                "control": {"port": port, "api_keys": [KEY]},
                "redis": {"url": "redis://127.0.0.1:1"},
            }
        )
        self.url = f"http://127.0.0.1:{port}"
        self.worker = Worker(
            WorkerSpec(
                kind="control",
                slot=-1,
                node="test",
                config=config.model_dump(mode="json"),
                counters_fd=table.fd,
                counters_rows=table.rows,
            ),
            "gateway.workers.control",
        )


@pytest.fixture
async def control() -> AsyncIterator[ControlProcess]:
    table = CounterTable.create(1)
    control = ControlProcess(table, free_port())
    try:
        yield control
    finally:
        await control.worker.aclose()
        os.close(table.fd)


async def start(control: ControlProcess) -> None:
    await control.worker.start()
    assert await control.worker.wait_ready(DEADLINE_S), control.worker.reason


async def test_it_serves_once_it_says_so_and_needs_no_redis_for_that(control: ControlProcess) -> None:
    await start(control)
    async with httpx.AsyncClient(base_url=control.url, headers={"X-API-Key": KEY}) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json()["problems"] == ["edge-1 is not running"]
        answer = (await client.post("/api/publish", json={"channel": "news", "data": 1})).json()
        assert answer["error"]["code"] == 100
        assert "Redis cannot be reached" in answer["error"]["message"]
        control.worker.drain(0.0)
        assert await control.worker.wait_ended() == 0


async def test_sigterm_ends_it_and_sigint_does_not(control: ControlProcess) -> None:
    await start(control)
    os.kill(control.worker.pid, signal.SIGINT)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{control.url}/health/live")).status_code == 200
    os.kill(control.worker.pid, signal.SIGTERM)
    assert await control.worker.wait_ended() == 0


async def test_taken_port_is_told_to_the_supervisor(control: ControlProcess) -> None:
    with socket.create_server(("127.0.0.1", int(control.url.rpartition(":")[2]))):
        await control.worker.start()
        assert not await control.worker.wait_ready(DEADLINE_S)
        assert await control.worker.wait_ended() == 1
    assert "control.port" in control.worker.reason
