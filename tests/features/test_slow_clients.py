"""Clients that do not read what they are subscribed to: bounded memory for them, everything for the others."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.features.conftest import OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("bystander")

BUDGET = 262_144
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = {
        "delivery": {"send_budget_bytes": BUDGET},
        "limits": {"close_timeout_s": 1.0},
        "namespaces": {"default": {}, "strict": {"slow_consumer": "disconnect"}},
    }
    with serving(config) as gateway:
        yield gateway


async def publish_to_reader(gateway: Gateway, reader: Client, channel: str, *, count: int, size: int) -> None:
    """Publish as fast as `reader` reads, so that only those who do not read fall behind."""
    done = len(reader.data(channel))
    for start in range(0, count, 20):
        for number in range(start, start + 20):
            gateway.publish(channel, f"{number:06}" + "x" * size)
        await reader.wait_data(channel, done + start + 20)


async def test_a_client_that_never_reads_costs_no_memory_beyond_its_budget_and_others_get_everything(
    gateway: Gateway, open_wire: OpenWire, bystander: Client
) -> None:
    stuck = [await open_wire(receive_buffer=4096) for _ in range(3)]
    for wire in stuck:
        await wire.connect(gateway.token("stuck"), "flood")
    await bystander.subscribe("flood")
    worker = psutil.Process(gateway.pid("edge-1"))
    await publish_to_reader(gateway, bystander, "flood", count=40, size=100_000)
    before = worker.memory_info().rss
    await publish_to_reader(gateway, bystander, "flood", count=600, size=100_000)
    grown = worker.memory_info().rss - before
    assert grown < len(stuck) * BUDGET + 20 * MIB, f"{grown / MIB:.1f} MiB for 60 MB that three clients did not read"
    assert [data[:6] for data in bystander.data("flood")[40:]] == [f"{number:06}" for number in range(600)]
    assert gateway.metric("gateway_dropped_total", reason="slow_consumer") > 0


async def test_a_client_that_never_reads_is_closed_with_3008_where_the_namespace_says_so(
    gateway: Gateway, open_wire: OpenWire, bystander: Client
) -> None:
    wire = await open_wire(receive_buffer=4096)
    await wire.connect(gateway.token("slowpoke"), "strict:flood")
    await bystander.subscribe("strict:flood")
    await publish_to_reader(gateway, bystander, "strict:flood", count=100, size=100_000)
    (line,) = await wait_until(lambda: gateway.logged("connection closed", user="slowpoke"), "it is closed")
    assert (line["code"], line["reason"]) == (3008, "slow")


async def test_a_client_that_closes_in_the_middle_of_a_large_delivery_leaves_nothing(
    gateway: Gateway, open_wire: OpenWire, bystander: Client
) -> None:
    await bystander.subscribe("large")
    for _ in range(5):
        wire = await open_wire(receive_buffer=4096)
        await wire.connect(gateway.token("hasty"), "large")
        gateway.publish("large", "x" * 900_000)
        wire.writer.transport.abort()
    await bystander.wait_data("large", 5)
    await wait_until(lambda: gateway.metric("gateway_connections") == 1, "only the bystander is left")
    assert gateway.metric("gateway_subscriptions") == 4  # everyone's, its own, calm, large
