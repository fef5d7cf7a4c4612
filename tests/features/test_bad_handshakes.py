"""Whatever comes instead of a handshake gets a clear answer, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.features.conftest import OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway
from tests.support.waiting import wait_until
from tests.support.wire import PATH, frame, request

pytestmark = pytest.mark.usefixtures("bystander")

TLS_CLIENT_HELLO = bytes.fromhex("160301020001000" + "1fc0303") + bytes(500)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe garbage \r\n\r\n",
        TLS_CLIENT_HELLO + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"GET /connection/websocket\r\n\r\n",
        b"\r\n\r\n\r\n",
        request(Host="a\x00b"),
        request(No_Colon=None).replace(b"Upgrade: websocket", b"Upgrade websocket"),
    ],
    ids=["bytes", "tls", "http2", "word", "http09", "blank", "nul", "colon"],
)
async def test_garbage_is_answered_with_400_and_the_connection_ends(garbage: bytes, open_wire: OpenWire) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(garbage)
    assert (await wire.status())[0] == 400


@pytest.mark.parametrize(
    "flood",
    [b"G" * 100_000, b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000],
    ids=["no-line-end", "long-line", "many-headers"],
)
async def test_an_endless_request_is_cut_off(flood: bytes, open_wire: OpenWire) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(flood)
    answer = await wire.rest()
    assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 414 ", b"HTTP/1.1 431 "))


@pytest.mark.parametrize(
    ("bad", "status", "said"),
    [
        (request("/"), 404, PATH),
        (request("/connection/websocket/"), 404, PATH),
        (request("/connection/sockjs"), 404, PATH),
        (request(method="POST"), 405, "POST"),
        (request(method="DELETE"), 405, "DELETE"),
        (request(version="HTTP/1.0"), 505, "HTTP/1.0"),
        (request(Sec_WebSocket_Version="8"), 426, "version 13"),
        (request(Host=None), 400, "Host"),
        (request(Sec_WebSocket_Version=None), 400, "Sec-WebSocket-Version"),
        (request(Sec_WebSocket_Key="too short"), 400, "Sec-WebSocket-Key"),
        (request(Sec_WebSocket_Key="dGhpcyBpcyBub3QgMTYgYnl0ZXM="), 400, "Sec-WebSocket-Key"),
        (request(Sec_WebSocket_Key=None), 400, "Sec-WebSocket-Key"),
        (request(Upgrade="h2c"), 426, ""),
        (request(Upgrade=None), 426, ""),
        (request(Connection="close"), 426, ""),
        (request(Sec_WebSocket_Protocol="soap"), 400, "centrifuge-json"),
        (request(f"{PATH}?format=xml"), 400, "centrifuge-json"),
        (request(f"{PATH}?{'&' * 50}" + "&".join(f"a{number}=1" for number in range(50))), 400, ""),
    ],
    ids=lambda value: value.split(b"\r\n")[0].decode()[:40] if isinstance(value, bytes) else str(value),
)
async def test_a_wrong_request_is_refused_with_a_status_that_says_why(
    bad: bytes, status: int, said: str, open_wire: OpenWire
) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(bad)
    answer, text = await wire.status()
    assert (answer, said in text) == (status, True), text


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null", "http://[bad"], ids=str
)
async def test_a_page_of_another_site_may_not_connect(origin: str, gateway: Gateway, open_wire: OpenWire) -> None:
    before = gateway.metric("gateway_handshakes_refused_total", reason="origin")
    wire = await open_wire(upgraded=False)
    wire.send(request(Origin=origin))
    status, text = await wire.status()
    assert status == 403
    assert "server.allowed_origins" in text
    assert gateway.metric("gateway_handshakes_refused_total", reason="origin") == before + 1


async def test_two_origins_are_refused(open_wire: OpenWire) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(request(Origin="http://127.0.0.1").replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n"))
    assert (await wire.status())[0] == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1", "http://127.0.0.1:3000", "https://127.0.0.1"], ids=str)
async def test_a_page_of_the_same_host_may_connect_from_any_port(origin: str, open_wire: OpenWire) -> None:
    await open_wire(Origin=origin)


@pytest.mark.parametrize("subprotocol", ["", " ", "centrifuge-json", "soap, centrifuge-json"], ids=repr)
async def test_the_subprotocol_header_of_every_sdk_is_understood(
    subprotocol: str, gateway: Gateway, open_wire: OpenWire
) -> None:
    """centrifuge-python < 0.5 sends an empty one."""
    wire = await open_wire(Sec_WebSocket_Protocol=subprotocol)
    await wire.connect(gateway.token("ada"))


async def test_refused_handshakes_are_counted_and_logged_without_a_token(gateway: Gateway, open_wire: OpenWire) -> None:
    before = gateway.metric("gateway_handshakes_refused_total", reason="bad_request")
    wire = await open_wire(upgraded=False)
    wire.send(request("/nowhere"))
    assert (await wire.status())[0] == 404
    assert gateway.metric("gateway_handshakes_refused_total", reason="bad_request") == before + 1
    assert gateway.logged("handshake refused")[-1]["peer"] == "127.0.0.1"


async def test_bytes_behind_the_handshake_in_one_packet_are_not_lost(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(request() + frame(b'{"id":1,"connect":{"token":"%b"}}' % gateway.token("ada").encode()))
    assert (await wire.status())[0] == 101
    (reply,) = await wire.replies()
    assert reply["connect"]["client"]


async def test_a_request_in_single_bytes_is_understood(open_wire: OpenWire) -> None:
    wire = await open_wire(upgraded=False)
    for byte in request():
        wire.send(bytes((byte,)))
        await wire.writer.drain()
    assert (await wire.status())[0] == 101


async def test_a_client_that_goes_in_the_middle_of_its_handshake_leaves_nothing(
    gateway: Gateway, open_wire: OpenWire, bystander: Client
) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(request()[:50])
    await wire.aclose()
    wire = await open_wire(upgraded=False)
    wire.send(request())
    wire.writer.transport.abort()
    await wait_until(lambda: gateway.metric("gateway_connections") == 1, "only the bystander is there")
    assert bystander.open_still
