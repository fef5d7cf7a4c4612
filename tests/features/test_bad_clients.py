"""Clients that hold a connection and do not play along: they are found out, and cost nobody anything."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import psutil
import pytest
from websockets.frames import Opcode

from tests.features.conftest import OpenClient, OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.wire import PATH, frame

pytestmark = pytest.mark.usefixtures("bystander")

PING_S, PONG_S, CONNECT_S, CLOSE_S = 1.5, 1.4, 1.5, 1.0
SLACK_S = 5.0
"""For a machine that is busy with other things; the claims below are about seconds, not about minutes."""
BUDGET = 262_144
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = {
        "keepalive": {"ping_interval_s": PING_S, "pong_timeout_s": PONG_S},
        "limits": {"connect_timeout_s": CONNECT_S, "close_timeout_s": CLOSE_S},
        "delivery": {"send_budget_bytes": BUDGET, "slow_timeout_s": 1.0},
    }
    with serving(config) as gateway:
        yield gateway


@pytest.fixture
async def proxy(gateway: Gateway) -> AsyncIterator[Proxy]:
    proxy = Proxy(gateway.public_port)
    await proxy.start()
    yield proxy
    await proxy.aclose()


def seconds_between(earlier: dict[str, str], later: dict[str, str]) -> float:
    """Time between two log lines."""
    moments = [datetime.fromisoformat(line["timestamp"]) for line in (earlier, later)]
    return (moments[1] - moments[0]).total_seconds()


async def test_a_client_that_vanishes_without_fin_is_closed_with_3012_within_ping_and_pong_time(
    gateway: Gateway, proxy: Proxy, bystander: Client
) -> None:
    client = await Client.open(f"ws://127.0.0.1:{proxy.port}{PATH}")
    await client.connect(gateway.token("ghost"))
    await client.subscribe("haunted")
    proxy.go_dark()
    assert gateway.publish("haunted", "boo") == 1
    (line,) = await wait_until(lambda: gateway.logged("connection closed", user="ghost"), "the ghost is closed")
    assert (line["code"], line["reason"], line["closed_by"]) == (3012, "no pong", "gateway")
    (opened,) = gateway.logged("connection opened", user="ghost")
    assert seconds_between(opened, line) < PING_S + PONG_S + CLOSE_S + SLACK_S
    assert gateway.metric("gateway_pongs_missed_total") == 1
    assert gateway.metric("gateway_connections") == 1
    assert bystander.open_still
    await proxy.aclose()
    await client.wait_closed()
    await client.aclose()


async def test_a_client_that_answers_no_ping_is_closed_with_3012_and_one_that_does_stays(
    open_client: OpenClient, bystander: Client
) -> None:
    client = await open_client("deaf")
    client.answers_pings = False
    assert await client.wait_closed() == (3012, "no pong")
    assert client.pings >= 1
    await bystander.wait(lambda: bystander.pings >= 1, "the bystander is pinged, too")


async def test_native_pings_are_answered_by_any_websocket_library(
    gateway: Gateway, open_client: OpenClient, bystander: Client
) -> None:
    client = await Client.open(f"{gateway.url}?cf_ws_frame_ping_pong=true")
    assert not {"ping", "pong"} & (await client.connect(gateway.token("native"))).keys()
    before = bystander.pings
    await bystander.wait(lambda: bystander.pings >= before + 3, "more than one round of pings")
    assert client.open_still
    assert client.pings == 0
    await client.aclose()


async def test_an_unanswered_native_ping_closes_with_3012(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire(path=f"{PATH}?cf_ws_frame_ping_pong=true")
    await wire.connect(gateway.token("deaf"))
    assert await wire.next_frame() == (Opcode.PING, b"")
    assert await wire.closed() == (3012, "no pong")


async def test_a_client_that_does_not_connect_in_time_is_closed_with_3502(open_client: OpenClient) -> None:
    client = await open_client(None)
    assert await client.wait_closed() == (3502, "stale")


async def test_a_client_that_does_not_finish_its_handshake_in_time_is_cut_off(
    gateway: Gateway, open_wire: OpenWire
) -> None:
    before = gateway.metric("gateway_handshakes_refused_total", reason="timeout")
    silent = await open_wire(upgraded=False)
    slow = await open_wire(upgraded=False)
    slow.send(b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    assert await silent.rest() == await slow.rest() == b""
    assert gateway.metric("gateway_handshakes_refused_total", reason="timeout") == before + 2


async def test_a_client_that_does_not_answer_the_close_frame_is_cut_off(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire()
    wire.send(frame(b"nonsense"))
    assert await wire.closed() == (3501, "bad request")
    assert await wire.rest() == b""
    wire.send(b"still here")
    await wait_until(lambda: gateway.metric("gateway_connections") == 1, "the socket is closed")


@pytest.mark.parametrize(
    ("user", "flood"),
    [
        ("pinging", frame(b"x" * 125, Opcode.PING)),
        ("asking", frame(b'{"id":1,"subscribe":{"channel":"' + b"x" * 90 + b'{"}}')),
    ],
)
async def test_a_client_that_asks_and_asks_and_never_reads_the_answers_costs_no_memory_beyond_its_budget(
    user: str, flood: bytes, gateway: Gateway, open_wire: OpenWire
) -> None:
    wire = await open_wire(receive_buffer=4096)
    await wire.connect(gateway.token(user))
    worker = psutil.Process(gateway.pid("edge-1"))
    before = worker.memory_info().rss
    sent, batch = 0, flood * 500
    with contextlib.suppress(ConnectionError):
        while sent < 60 * MIB:
            wire.send(batch)
            await wire.writer.drain()
            sent += len(batch)
    grown = worker.memory_info().rss - before
    assert grown < 20 * MIB, f"{grown / MIB:.1f} MiB for {sent / MIB:.1f} MiB of questions"
    (line,) = await wait_until(lambda: gateway.logged("connection closed", user=user), "it is closed")
    assert line["closed_by"] == "gateway"
