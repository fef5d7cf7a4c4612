"""SIGHUP: another configuration, and nobody is refused meanwhile. Real signals to real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient, OpenWire
from tests.support.gateway import SECRET, Gateway, serving
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.wire import Wire, request

WORKERS = 2
CONNECTS = 1000
AT_ONCE = 32


def config(ping_interval_s: float, **server: object) -> dict[str, dict[str, object]]:
    return {
        "server": {"workers": WORKERS, "drain_window_s": 0.5} | server,
        "keepalive": {"ping_interval_s": ping_interval_s},
    }


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """One for each test: they change it."""
    with serving(config(25)) as gateway:
        yield gateway


async def reloads_done(gateway: Gateway, count: int) -> None:
    await wait_until(lambda: len(gateway.logged("reload done")) >= count, f"{count} reloads", timeout_s=3 * DEADLINE_S)
    gateway.look_around()


class Crowd:
    """Clients that connect one after the other, several at once, until they are told to stop."""

    def __init__(self, gateway: Gateway) -> None:
        self.connected = 0
        self.refused: list[str] = []
        self._gateway = gateway
        self._enough = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*(self._connect_again_and_again() for _ in range(AT_ONCE)))

    def stop(self) -> None:
        self._enough.set()

    async def _connect_again_and_again(self) -> None:
        while not self._enough.is_set():
            try:
                wire = await Wire.open(self._gateway.public_port)
                wire.send(request())
                status, _ = await wire.status()
                await wire.aclose()
            except (OSError, EOFError) as error:
                self.refused.append(repr(error))
                continue
            self.connected += 1
            if status != 101:
                self.refused.append(f"status {status}")


@pytest.mark.timeout(180)
async def test_nobody_is_refused_while_a_thousand_clients_connect_and_the_workers_are_rolled(gateway: Gateway) -> None:
    before = {gateway.pid(f"edge-{number}") for number in (1, 2)}
    crowd = Crowd(gateway)
    connecting = asyncio.ensure_future(crowd.run())
    await wait_until(lambda: crowd.connected >= 50, "they connect")
    gateway.reload(config(20))
    await reloads_done(gateway, 1)
    gateway.reload(config(15))
    await reloads_done(gateway, 2)
    await wait_until(lambda: crowd.connected >= CONNECTS, "a thousand have connected", timeout_s=3 * DEADLINE_S)
    crowd.stop()
    await connecting
    assert crowd.refused == []
    assert not before & {gateway.pid(f"edge-{number}") for number in (1, 2)}
    assert len(gateway.logged("worker replaced")) == 2 * (WORKERS + 1)


@pytest.mark.timeout(120)
async def test_who_waits_in_the_queue_of_a_worker_that_is_replaced_gets_to_its_successor(
    gateway: Gateway, open_wire: OpenWire
) -> None:
    old = gateway.pid("edge-1")
    gateway.reload(config(20))
    await wait_until(lambda: gateway.logged("worker started", to_replace=old), "its successor is on the way")
    os.kill(old, signal.SIGSTOP)
    wires = [await open_wire(upgraded=False) for _ in range(200)]
    for wire in wires:
        wire.send(request())
    await wait_until(lambda: len(gateway.logged("worker ready", worker="edge-1")) == 2, "the successor serves")
    os.kill(old, signal.SIGCONT)
    assert {await wire.status() for wire in wires} == {(101, "")}
    await reloads_done(gateway, 1)


@pytest.mark.timeout(120)
async def test_clients_are_closed_one_by_one_with_a_code_to_come_back_and_find_the_new_configuration(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = [await open_client(f"user-{number}") for number in range(8)]
    assert {client.connected["ping"] for client in clients} == {25}
    opened = gateway.metric("gateway_connections_opened_total")
    gateway.reload(config(12))
    closes = await asyncio.gather(*(client.wait_closed() for client in clients))
    assert set(closes) == {(3001, "shutdown")}
    await reloads_done(gateway, 1)
    returned = await open_client("again")
    assert returned.connected["ping"] == 12
    await returned.subscribe("news")
    gateway.publish("news", 1)
    assert await returned.wait_data("news") == [1]
    assert gateway.metric("gateway_workers", state="ready") == WORKERS
    assert gateway.metric("gateway_connections") == 1
    assert gateway.metric("gateway_connections_opened_total") == opened + 1


async def test_a_bad_configuration_changes_nothing_and_every_problem_is_named(
    gateway: Gateway, open_client: OpenClient
) -> None:
    gateway.allowed_errors = {"reload refused"}
    client = await open_client()
    pids = [gateway.pid(name) for name in ("edge-1", "edge-2", "control")]
    gateway.reload('[server]\nworker = 3\n[auth]\nhmac_secret = "short"\n[keepalive]\nping_interval_s = 0\n')
    (line,) = await wait_until(lambda: gateway.logged("reload refused"), "it says no")
    assert len(line["problems"]) == 3
    assert f"{gateway.config_file}:2: [server] worker: there is no such key" in line["problems"][0]
    assert not any(SECRET in problem or "short" in problem.split(": ", 2)[2] for problem in line["problems"][1:2])
    assert pids == [gateway.pid(name) for name in ("edge-1", "edge-2", "control")]
    assert client.open_still


async def test_what_needs_a_restart_is_said_and_refused(gateway: Gateway) -> None:
    gateway.allowed_errors = {"reload refused"}
    gateway.reload(config(20, port=1) | {"redis": {"url": "redis://127.0.0.1:1"}})
    (line,) = await wait_until(lambda: gateway.logged("reload refused"), "it says no")
    port, redis = line["problems"]
    assert port == "[server] port needs a restart: it is 0, the new configuration says 1"
    assert redis.startswith("[redis] url needs a restart")


@pytest.mark.timeout(120)
async def test_fewer_and_again_more_workers(gateway: Gateway, open_client: OpenClient) -> None:
    gateway.reload(config(20, workers=1))
    await reloads_done(gateway, 1)
    assert gateway.metric("gateway_workers", state="ready") == 1
    assert gateway.metric("gateway_workers", state="missing") == 0
    client = await open_client()
    assert gateway.worker_of(client.id) == "edge-1"
    gateway.reload(config(20))
    await reloads_done(gateway, 2)
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == WORKERS, "both serve")
