"""What the gateway says about itself, and how it goes on when a part of it dies. Real signals to real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest
from websockets.exceptions import InvalidHandshake

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.processes import is_redis, those
from tests.support.waiting import POLL_INTERVAL_S, wait_until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One for all tests: each finds it whole again, whatever the one before has done to it."""
    with serving({"server": {"workers": 2}}) as gateway:
        gateway.allowed_errors = {"worker ended", "embedded redis ended"}
        yield gateway


@pytest.fixture(autouse=True)
async def whole(gateway: Gateway) -> AsyncIterator[None]:
    """Before each test: both workers serve, in touch with Redis, without clients. After it: find what is new."""
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 2, "both workers serve")
    await wait_until(lambda: gateway.metric("gateway_connections") == 0, "nobody is there")
    yield
    gateway.look_around()


async def back(gateway: Gateway, user: str, channel: str) -> Client:
    """What an SDK does after it lost its connection: try until it is there again."""
    while True:
        try:
            client = await Client.open(gateway.url)
        except (OSError, InvalidHandshake):
            await asyncio.sleep(POLL_INTERVAL_S)
            continue
        await client.connect(gateway.token(user))
        await client.subscribe(channel)
        return client


async def test_a_killed_worker_is_replaced_and_its_clients_come_back(gateway: Gateway, open_client: OpenClient) -> None:
    clients = [await open_client(f"user-{number}") for number in range(6)]
    for client in clients:
        await client.subscribe("news")
    victim = gateway.worker_of(clients[0].id)
    lost = [client for client in clients if gateway.worker_of(client.id) == victim]
    kept = [client for client in clients if client not in lost]
    pid = gateway.pid(victim)
    os.kill(pid, signal.SIGKILL)
    for client in lost:
        assert (await client.wait_closed())[0] == 1006
    returned = [await back(gateway, "returning", "news") for _ in lost]
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 2, "both workers serve")
    assert gateway.pid(victim) != pid
    gateway.publish("news", "after")
    for client in (*kept, *returned):
        assert (await client.wait_data("news"))[-1] == "after"
    assert all(client.open_still for client in kept)
    await wait_until(lambda: gateway.metric("gateway_connections") == 6, "the dead worker's clients are not counted")
    for client in returned:
        await client.aclose()


async def test_a_killed_control_process_is_replaced_and_clients_notice_nothing(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client()
    await client.subscribe("news")
    os.kill(gateway.pid("control"), signal.SIGKILL)
    await wait_until(lambda: len(gateway.logged("worker ready", worker="control")) == 2, "it is there again")
    gateway.look_around()
    assert gateway.metric("gateway_connections") == 1
    gateway.publish("news", 1)
    assert await client.wait_data("news") == [1]


async def test_a_killed_embedded_redis_is_replaced_and_everything_resumes(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client()
    await client.subscribe("news")
    (server,) = those(gateway.look_around(), is_redis)
    server.kill()
    await wait_until(lambda: gateway.logged("embedded redis started", again=True), "there is another one")
    gateway.look_around()
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both workers have found it")
    assert client.open_still
    gateway.publish("news", "after")
    assert await client.wait_data("news") == ["after"]


async def test_a_frozen_supervisor_does_not_stop_deliveries(gateway: Gateway, open_client: OpenClient) -> None:
    client = await open_client()
    await client.subscribe("news")
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        gateway.publish("news", 1)
        assert await client.wait_data("news") == [1]
        late = await open_client("late")
        await late.subscribe("news")
    finally:
        gateway.process.send_signal(signal.SIGCONT)


async def test_a_worker_that_gets_sigterm_itself_drains_and_is_replaced(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client()
    worker = gateway.worker_of(client.id)
    before = gateway.pid(worker)
    psutil.Process(before).terminate()
    assert await client.wait_closed() == (3001, "shutdown")
    await wait_until(lambda: gateway.pid(worker) != before, "another worker is started")
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 2, "both workers serve")


async def test_health_answers_on_both_ports(gateway: Gateway) -> None:
    assert gateway.ready() == (200, "ready\n")
    live = gateway.get(f"{gateway.public_url}/health/live")
    assert (live.status_code, live.text) == (200, "live\n")
    assert gateway.get(f"{gateway.control_url}/health/live").json() == {"status": "live"}
    answer = gateway.get(f"{gateway.control_url}/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "workers": 2,
        "workers_expected": 2,
        "connections": 0,
        "problems": [],
    }


async def test_one_line_is_logged_for_each_connection_opened_and_closed_and_none_per_message(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    await client.subscribe("news")
    for number in range(50):
        gateway.publish("news", number)
    await client.wait_data("news", 50)
    await client.aclose()
    await wait_until(lambda: gateway.logged("connection closed", client=client.id), "the close is logged")
    lines = [line for line in gateway.log.seen if client.id in line]
    assert len(lines) == 2
    (opened,) = gateway.logged("connection opened", client=client.id)
    (closed,) = gateway.logged("connection closed", client=client.id)
    assert opened["user"] == closed["user"] == "ada"
    assert opened["process"] == closed["process"]
    assert (closed["code"], closed["closed_by"]) == (1000, "client")
