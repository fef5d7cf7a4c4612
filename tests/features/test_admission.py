"""Admission to a whole gateway with two workers: per address, per user, behind load balancers, and for how long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.features.conftest import OpenClient, OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until
from tests.support.wire import Wire, request

WORKERS = 2
PER_ADDRESS = 6
PER_USER = 2


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    config: dict[str, Any] = {
        "server": {"workers": WORKERS, "trusted_proxies": ["127.0.0.1"]},
        "limits": {"connections_per_ip": PER_ADDRESS, "connections_per_user": PER_USER},
        "redis": {"url": server.url},
    }
    with serving(config) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
async def empty(gateway: Gateway) -> None:
    await wait_until(lambda: gateway.metric("gateway_connections") == 0, "nobody is there")


def from_address(address: str) -> dict[str, Any]:
    """For clients: what a proxy on this machine says."""
    return {"additional_headers": {"X-Forwarded-For": address}}


async def test_one_address_has_its_connections_over_all_workers_and_no_more(
    gateway: Gateway, open_wire: OpenWire
) -> None:
    wires = [await open_wire(X_Forwarded_For="203.0.113.1") for _ in range(PER_ADDRESS)]
    late = await open_wire(upgraded=False)
    late.send(request(X_Forwarded_For="203.0.113.1"))
    head = (await asyncio.wait_for(late.reader.readuntil(b"\r\n\r\n"), 20)).decode()
    assert head.startswith("HTTP/1.1 429 ")
    assert 10 <= int(head.lower().split("retry-after: ")[1].split("\r\n")[0]) <= 20
    assert gateway.metric("gateway_handshakes_refused_total", reason="address") >= 1
    neighbour = await open_wire(X_Forwarded_For="203.0.113.2")
    await neighbour.aclose()
    await wires[0].aclose()

    async def again() -> int:
        wire = await open_wire(upgraded=False)
        wire.send(request(X_Forwarded_For="203.0.113.1"))
        return (await wire.status())[0]

    async with asyncio.timeout(20):
        while await again() != 101:
            await asyncio.sleep(0.02)
    assert await again() == 429


async def test_connections_of_a_worker_that_died_do_not_count(gateway: Gateway, open_wire: OpenWire) -> None:
    wires = [await open_wire(X_Forwarded_For="203.0.113.3") for _ in range(PER_ADDRESS)]
    per_worker = {each: gateway.metric("gateway_connections", worker=each) for each in ("edge-1", "edge-2")}
    victim = max(per_worker, key=lambda each: per_worker[each])
    gateway.allowed_errors |= {"worker ended"}
    pid = gateway.pid(victim)
    (process,) = [process for process in gateway.look_around() if process.pid == pid]
    process.kill()
    await wait_until(lambda: gateway.pid(victim) != pid, "it is restarted")
    await wait_until(lambda: gateway.metric("gateway_listening") == WORKERS, "both listen")
    admitted = 0
    for _ in range(PER_ADDRESS):
        wire = await open_wire(upgraded=False)
        wire.send(request(X_Forwarded_For="203.0.113.3"))
        admitted += (await wire.status())[0] == 101
    assert admitted == per_worker[victim]
    for wire in wires:
        wire.writer.transport.abort()


async def test_the_log_names_the_client_not_the_proxy(gateway: Gateway, open_client: OpenClient) -> None:
    client = await open_client("ada", **from_address("6.6.6.6, 203.0.113.7"))
    gateway.worker_of(client.id)
    assert gateway.logged("connection opened", client=client.id)[0]["peer"] == "203.0.113.7:0"


async def test_a_user_has_its_connections_in_the_whole_fleet_and_no_more(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = [await open_client("eve") for _ in range(PER_USER)]
    for _ in range(4):  # whichever worker it is
        late = await open_client(None)
        with pytest.raises(ConnectionError):
            await late.connect(gateway.token("eve"))
        assert await late.wait_closed() == (3504, "connection limit")
    assert gateway.metric("gateway_user_limit_total", result="refused_new") == 4
    await clients[0].aclose()
    await wait_until(lambda: gateway.redis.zcard("gw:user:eve") == 1, "its place is free")
    await open_client("eve")
    assert clients[1].open_still


async def test_the_oldest_connection_of_a_user_makes_room_on_whatever_worker_it_is(server: RedisServer) -> None:
    config: dict[str, Any] = {
        "server": {"workers": WORKERS},
        "limits": {"connections_per_user": 1, "user_limit_policy": "close_oldest"},
        "redis": {"url": server.url, "prefix": "oldest"},
    }
    with serving(config) as gateway:
        workers: list[tuple[str, str]] = []
        last = await Client.open(gateway.url)
        await last.connect(gateway.token("ada"))
        for _ in range(30):
            client = await Client.open(gateway.url)
            await client.connect(gateway.token("ada"))
            assert await last.wait_closed() == (3504, "connection limit")
            workers.append((gateway.worker_of(last.id), gateway.worker_of(client.id)))
            last = client
            if any(old != new for old, new in workers) and len(workers) > 3:
                break
        assert any(old != new for old, new in workers), "also on the other worker"
        await last.subscribe("still-here")
        await last.aclose()


async def test_behind_a_tcp_load_balancer_the_client_has_its_own_address_and_nobody_else_gets_in() -> None:
    config: dict[str, Any] = {"server": {"workers": 1, "proxy_protocol": True}, "limits": {"connections_per_ip": 1}}
    with serving(config) as gateway:

        async def ask(head: bytes) -> tuple[int, Wire]:
            wire = await Wire.open(gateway.public_port)
            wire.send(head + request())
            try:
                return (await wire.status())[0], wire
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, wire

        v1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 8000\r\n"
        address = socket.inet_aton("203.0.113.10") + socket.inet_aton("127.0.0.1") + bytes((1, 2, 3, 4))
        v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f" + address + b"\x04\0\0"
        answers = [await ask(head) for head in (v1, v2, v1, b"", b"PROXY nonsense\r\n")]
        assert [status for status, _ in answers] == [101, 101, 429, 0, 0]
        assert gateway.metric("gateway_handshakes_refused_total", reason="proxy_protocol") == 2
        first = answers[0][1]
        await first.connect(gateway.token("ada"))
        gateway.log.wait_for(lambda: gateway.logged("connection opened"), "the client is in the log")
        assert gateway.logged("connection opened")[0]["peer"] == "203.0.113.9:4711"
        for _, wire in answers:
            await wire.aclose()


async def test_in_a_storm_all_clients_get_in_at_the_pace_and_health_answers() -> None:
    config: dict[str, Any] = {"limits": {"handshakes_per_s": 100, "handshakes_waiting": 1000}}
    with serving(config) as gateway:
        begin = asyncio.get_running_loop().time()
        opening = [asyncio.ensure_future(Client.open(gateway.url)) for _ in range(150)]
        assert (await asyncio.to_thread(gateway.ready))[0] == 200
        clients = await asyncio.gather(*opening)
        took_s = asyncio.get_running_loop().time() - begin
        assert took_s > 1.0, "100 in a second, and a moment's worth at once"
        assert gateway.metric("gateway_handshakes_paced_total") > 100
        assert gateway.metric("gateway_handshakes_waiting") == 0
        await asyncio.gather(*(client.aclose() for client in clients))


async def test_those_who_cannot_wait_are_told_when_to_come_back() -> None:
    config: dict[str, Any] = {"limits": {"handshakes_per_s": 1, "handshakes_waiting": 2}}
    with serving(config) as gateway:
        wires = [await Wire.open(gateway.public_port) for _ in range(10)]
        for wire in wires:
            wire.send(request())
        refused = 7
        metric = "gateway_handshakes_refused_total"
        await wait_until(lambda: gateway.metric(metric, reason="pace") >= refused - 1, "the others are refused")
        heads = [await wire.reader.readuntil(b"\r\n\r\n") for wire in wires]
        told = [head.decode().lower() for head in heads if b" 503 " in head.split(b"\r\n")[0]]
        assert len(told) >= refused - 1
        assert all(1 <= int(head.split("retry-after: ")[1].split("\r\n")[0]) <= 10 for head in told)
        assert sum(head.startswith(b"HTTP/1.1 101 ") for head in heads) == 10 - len(told)
        for wire in wires:
            await wire.aclose()


async def test_connections_grow_old_one_by_one_and_sdks_come_back() -> None:
    config: dict[str, Any] = {
        "server": {"max_connection_age_s": 2.0},
        "keepalive": {"ping_interval_s": 1.0, "pong_timeout_s": 0.9},
    }
    with serving(config) as gateway:
        clients = [await Client.open(gateway.url) for _ in range(10)]
        for client in clients:
            await client.connect(gateway.token("ada"))
        assert {await client.wait_closed() for client in clients} == {(3011, "force reconnect")}
        assert gateway.metric("gateway_connections_aged_total") == 10
        again = await Client.open(gateway.url)
        await again.connect(gateway.token("ada"))
        await again.aclose()


async def test_bad_tokens_are_answered_late_and_good_ones_at_once() -> None:
    with serving({"limits": {"auth_failures": 2, "auth_delay_s": 1.0}}) as gateway:

        async def fail() -> Client:
            client = await Client.open(gateway.url)
            await client.send_text('{"id":1,"connect":{"token":"bad"}}')
            return client

        for _ in range(6):
            late = await fail()
            assert await late.wait_closed() == (3500, "invalid token")
        slow = await fail()
        good = await Client.open(gateway.url)
        await good.connect(gateway.token("ada"))
        assert slow.open_still, "the good one did not have to wait for it"
        assert await slow.wait_closed() == (3500, "invalid token")
        assert gateway.metric("gateway_authentication_failures_total") == 7
        assert gateway.metric("gateway_authentication_answers_delayed_total") == 5
        await good.aclose()
