"""Memory that runs out, for real: clients that do not read fill a worker up to a limit of its own.

The limit is set by what a worker of this machine has when it is idle, so that the test stands far from every threshold:
idle at 1/3 of it, filled to about 2/3; new connections are refused at 1/2, and again taken below 0.45.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.features.conftest import OpenClient, OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until
from tests.support.wire import Wire

MIB = 1024 * 1024
BLOCK = "x" * 1_000_000
TIMES = {"check_interval_s": 0.1, "reclaim_interval_s": 0.2, "stalled_percent": 0}


def short_of_memory(**memory: Any) -> dict[str, Any]:
    return {
        "memory": TIMES | memory,
        "delivery": {"send_budget_bytes": 1024 * MIB},
        "limits": {"close_timeout_s": 0.5},
        "namespaces": {"default": {"slow_consumer": "drop"}},
    }


@pytest.fixture(scope="module")
def idle_bytes() -> int:
    """What a worker has for itself when nobody is connected."""
    with serving(short_of_memory()) as gateway:
        gateway.log.wait_for(lambda: gateway.metric("gateway_memory_worker_bytes") > 0, "the governor has looked")
        return int(gateway.metric("gateway_memory_worker_bytes"))


@pytest.fixture
def gateway(request: pytest.FixtureRequest, idle_bytes: int) -> Iterator[Gateway]:
    """One with thresholds of its own."""
    with serving(short_of_memory(limit_bytes=3 * idle_bytes, **request.param)) as gateway:
        yield gateway


async def fill(gateway: Gateway, open_wire: OpenWire, size: int) -> Wire:
    """Somebody who does not read, and `size` bytes for it. The kernel takes a few of them."""
    wire = await open_wire(receive_buffer=4096)
    await wire.connect(gateway.token("stuck"), "flood")
    for _ in range(size // len(BLOCK)):
        gateway.publish("flood", BLOCK)
    return wire


@pytest.mark.parametrize("gateway", [{"refuse_at": 0.5, "close_at": 0.9, "drain_at": 0.95}], indirect=True)
async def test_new_connections_are_refused_while_those_that_are_there_go_on_and_taken_again_afterwards(
    gateway: Gateway, idle_bytes: int, open_client: OpenClient, open_wire: OpenWire, bystander: Client
) -> None:
    stuck = await fill(gateway, open_wire, idle_bytes)
    await wait_until(lambda: gateway.metric("gateway_memory_level") == 3, "it refuses")
    newcomer = await open_client(None)
    assert await newcomer.wait_closed() == (1013, "try again later")
    assert gateway.metric("gateway_handshakes_refused_total", reason="memory") == 1
    gateway.publish("calm", "you are still here")
    await bystander.wait_data("calm")
    assert gateway.metric("gateway_memory_actions_total", action="refuse") == 1
    assert gateway.metric("gateway_memory_actions_total", action="close_slowest") == 0
    (line,) = gateway.logged("memory level changed", now="refuse")
    assert line["source"] == "memory.limit_bytes"
    assert line["limit_mib"] == round(3 * idle_bytes / MIB, 1)

    stuck.writer.transport.abort()
    await wait_until(lambda: gateway.metric("gateway_memory_level") < 3, "the pressure is gone")
    again = await open_client("again")
    await again.subscribe("news")
    gateway.publish("news", "welcome")
    assert await again.wait_data("news") == ["welcome"]
    assert gateway.metric("gateway_memory_actions_total", action="collect") > 0
    assert gateway.metric("gateway_memory_pause_microseconds_total") > 0


@pytest.mark.parametrize("gateway", [{"refuse_at": 0.5, "close_at": 0.55, "drain_at": 0.95}], indirect=True)
async def test_the_client_that_does_not_read_is_closed_and_nobody_else(
    gateway: Gateway, idle_bytes: int, open_wire: OpenWire, bystander: Client
) -> None:
    # It may be closed before the worker has more than this: that is what is wanted.
    wire = await open_wire(receive_buffer=4096)
    await wire.connect(gateway.token("stuck"), "flood")
    for _ in range(2 * idle_bytes // len(BLOCK)):
        gateway.publish("flood", BLOCK)
        await asyncio.sleep(0.01)
        if gateway.logged("connection closed", user="stuck"):
            break
    (line,) = await wait_until(lambda: gateway.logged("connection closed", user="stuck"), "it is closed")
    assert (line["code"], line["reason"]) == (3008, "slow")
    assert gateway.metric("gateway_memory_actions_total", action="close_slowest") == 1
    await wait_until(lambda: gateway.metric("gateway_memory_level") < 3, "that was enough")
    assert bystander.open_still


@pytest.mark.parametrize(
    "gateway", [{"refuse_at": 0.5, "close_at": 0.55, "drain_at": 0.6, "closes_per_s": 0.001}], indirect=True
)
async def test_a_worker_that_is_full_closes_its_clients_and_is_replaced(
    gateway: Gateway, idle_bytes: int, open_client: OpenClient, open_wire: OpenWire
) -> None:
    gateway.allowed_errors = {"worker ended"}
    client = await open_client("ada")
    before = gateway.pid("edge-1")
    stuck = await open_wire(receive_buffer=4096)
    await stuck.connect(gateway.token("stuck"), "flood")
    for _ in range(3 * idle_bytes // len(BLOCK)):
        gateway.publish("flood", BLOCK)
        await asyncio.sleep(0.005)
        if not client.open_still:
            break
    assert await client.wait_closed() == (3001, "shutdown")
    await wait_until(lambda: len(gateway.logged("worker ready", worker="edge-1")) == 2, "there is another worker")
    assert gateway.pid("edge-1") != before
    (line,) = gateway.logged("worker ended")
    assert "out of memory" in line["reason"]
    assert gateway.metric("gateway_memory_actions_total", action="drain") == 1
    again = await open_client("ada")
    await again.subscribe("news")
    gateway.publish("news", "welcome")
    assert await again.wait_data("news") == ["welcome"]
