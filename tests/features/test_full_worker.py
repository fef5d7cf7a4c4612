"""A worker at its limit turns clients away with 1013, leaves the listening group, and comes back when there is room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidMessage

from tests.features.conftest import OpenClient, OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until
from tests.support.wire import Wire, request

LIMIT = 3
WORKERS = 2


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving({"server": {"workers": WORKERS}, "limits": {"max_connections": LIMIT}}) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
async def empty(gateway: Gateway) -> None:
    """Each test begins with no connection, and both workers listening."""
    await wait_until(lambda: gateway.metric("gateway_connections") == 0, "nobody is there")
    await wait_until(lambda: gateway.metric("gateway_listening") == WORKERS, "both workers listen")


async def open_or_none(open_client: OpenClient) -> Client | None:
    """A connected client, or None when the gateway has no room for it right now."""
    try:
        return await open_client("ada")
    except (OSError, InvalidMessage, ConnectionError):
        return None


async def fill(gateway: Gateway, open_client: OpenClient) -> list[Client]:
    """Open clients until there is no more room, trying again when one is turned away, as SDKs do."""
    clients: list[Client] = []
    for _ in range(200):
        if len(clients) == LIMIT * WORKERS:
            return clients
        if (client := await open_or_none(open_client)) is not None:
            clients.append(client)
    raise AssertionError(f"{len(clients)} clients after 200 attempts")


async def test_new_clients_go_to_workers_with_room_until_all_are_full(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = await fill(gateway, open_client)
    for worker in ("edge-1", "edge-2"):
        assert gateway.metric("gateway_connections", worker=worker) == LIMIT
    await wait_until(lambda: gateway.metric("gateway_listening") == 0, "both have left the listening group")
    assert await open_or_none(open_client) is None
    for client in clients:
        await client.subscribe("news")
    gateway.publish("news", 1)
    for client in clients:
        assert await client.wait_data("news") == [1]


async def test_a_full_worker_takes_clients_again_when_there_is_room(gateway: Gateway, open_client: OpenClient) -> None:
    clients = await fill(gateway, open_client)
    worker = gateway.worker_of(clients[0].id)
    await wait_until(lambda: gateway.metric("gateway_listening") == 0, "both are full")
    leaving = [client for client in clients if gateway.worker_of(client.id) == worker][:2]
    for client in leaving:
        await client.aclose()
    await wait_until(lambda: gateway.metric("gateway_listening", worker=worker) == 1, "it listens again")
    newcomer = await open_client("newcomer")
    assert gateway.worker_of(newcomer.id) == worker
    await newcomer.subscribe("news")
    gateway.publish("news", "welcome")
    assert await newcomer.wait_data("news") == ["welcome"]
    assert gateway.logged("listening again", process=worker)


async def test_those_who_were_accepted_but_find_no_room_are_closed_with_1013(
    gateway: Gateway, open_wire: OpenWire
) -> None:
    """As in a storm: more connections are accepted than there is room for before the first handshake is done."""
    started = request()
    received = gateway.metric("gateway_received_bytes_total")
    wires = [await open_wire(upgraded=False) for _ in range(20)]
    for wire in wires:
        wire.send(started[:40])
    everything = received + 20 * 40
    await wait_until(lambda: gateway.metric("gateway_received_bytes_total") == everything, "all are accepted")
    for wire in wires:
        wire.send(started[40:])
        assert (await wire.status())[0] == 101
    admitted = await _admitted(gateway, wires)
    assert 1 + LIMIT <= admitted <= LIMIT * WORKERS
    assert gateway.metric("gateway_handshakes_refused_total", reason="full") >= 20 - admitted
    assert gateway.metric("gateway_connections") == admitted


async def _admitted(gateway: Gateway, wires: list[Wire]) -> int:
    """How many get an answer to `connect`; the others must have been closed with 1013."""
    admitted = 0
    for wire in wires:
        wire.send_commands({"id": 1, "connect": {"token": gateway.token("ada")}})
        opcode, payload = await wire.next_frame()
        if opcode == 8:
            assert (int.from_bytes(payload[:2]), payload[2:]) == (1013, b"try again later")
        else:
            admitted += 1
    return admitted
