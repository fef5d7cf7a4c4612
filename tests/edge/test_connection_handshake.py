"""The handshake of one connection, on bytes: what is accepted, what is refused and how that is said."""

from __future__ import annotations

import pytest

from gateway.metrics import names
from tests.support.edge import EdgeWorld
from tests.support.wire import frame, request


async def test_a_good_request_is_upgraded() -> None:
    world = EdgeWorld()
    peer = world.peer()
    peer.feed(request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="))
    head = peer.answer.decode().lower()
    assert head.startswith("http/1.1 101 ")
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head  # RFC 6455 §1.3
    assert "sec-websocket-protocol" not in head
    assert "sec-websocket-extensions" not in head
    assert (world.counters[names.OPENED], world.counters[names.CONNECTIONS]) == (1, 1)
    assert peer.transport.high_water == world.config.delivery.send_budget_bytes
    assert world.changes == 1


async def test_a_request_may_come_byte_by_byte() -> None:
    peer = EdgeWorld().peer()
    for byte in request():
        peer.feed(bytes((byte,)))
    assert peer.answer.startswith(b"HTTP/1.1 101 ")


async def test_a_frame_may_come_with_the_request() -> None:
    peer = EdgeWorld(auth={"anonymous": True}).peer()
    peer.world.session.hub.redis.away = True
    peer.feed(request() + frame(b'{"id":1,"connect":{}}'))
    assert peer.replies()[0]["id"] == 1


async def test_the_subprotocol_that_was_offered_is_the_one_that_is_answered() -> None:
    peer = EdgeWorld().upgraded(Sec_WebSocket_Protocol="other, centrifuge-json")
    assert b"sec-websocket-protocol: centrifuge-json\r\n" in peer.answer.lower()


async def test_the_empty_subprotocol_header_of_the_python_sdk_is_no_fault() -> None:
    peer = EdgeWorld().upgraded(Sec_WebSocket_Protocol="")
    assert b"sec-websocket-protocol" not in peer.answer.lower()


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"POST /api/publish HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 405),
        (request("/elsewhere"), 404),
        (request(Upgrade=None), 426),
        (request(Connection="close"), 426),
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="too short"), 400),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Version=None), 400),
        (request(Origin="https://evil.example"), 403),
        (request(Sec_WebSocket_Protocol="other"), 400),
        (request(X="y" * 40_000), 431),
        (request(Host=None), 400),
        (request(Host="a") + b"x" * 40_000, 400),
        (request(method="HEAD"), 405),
        (b"GET /" + b"x" * 20_000, 414),
    ],
    ids=lambda bad: repr(bad[:40]) if isinstance(bad, bytes) else str(bad),
)
async def test_what_is_no_good_request_has_its_status_and_an_end(bad: bytes, status: int) -> None:
    world = EdgeWorld()
    peer = world.peer()
    peer.feed(bad)
    assert peer.answer.split(b" ", 2)[1] == str(status).encode(), peer.answer
    assert peer.transport.half_closed
    refused = names.REFUSED_ORIGIN if status == 403 else names.REFUSED_REQUEST
    assert world.counters[refused] == 1
    assert world.counters[names.OPENED] == world.counters[names.CONNECTIONS] == 0
    peer.feed(b"GET / HTTP/1.1\r\n\r\n")  # nothing more is answered (the transport would complain)
    peer.vanish()


@pytest.mark.parametrize(
    ("path", "ready", "status"), [("live", False, 200), ("ready", True, 200), ("ready", False, 503)]
)
async def test_health_is_answered_and_the_connection_ended(path: str, ready: bool, status: int) -> None:
    world = EdgeWorld(ready=ready)
    peer = world.peer()
    peer.feed(f"GET /health/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert peer.answer.startswith(b"HTTP/1.1 %d " % status)
    assert peer.transport.half_closed
    assert world.counters[names.REFUSED_REQUEST] == 0


async def test_a_full_worker_upgrades_and_closes_with_1013() -> None:
    world = EdgeWorld(limits={"max_connections": 1})
    world.upgraded()
    late = world.upgraded()
    assert late.close == (1013, "try again later")
    assert world.counters[names.REFUSED_FULL] == 1
    assert world.counters[names.CONNECTIONS] == 1
    late.vanish()
    assert world.counters[names.CONNECTIONS] == 1


async def test_who_sends_no_whole_request_in_time_is_cut_off() -> None:
    world = EdgeWorld(limits={"connect_timeout_s": 10})
    peer = world.peer()
    peer.feed(request()[:-1])
    world.clock.advance(9.9)
    assert world.shared.handshakes.expire() == []
    world.clock.advance(0.1)
    for late in world.shared.handshakes.expire():
        late.handshake_timed_out()
    assert peer.transport.aborted
    assert world.counters[names.REFUSED_TIMEOUT] == 1


async def test_who_does_not_connect_in_time_after_the_handshake_is_closed_with_3502() -> None:
    world = EdgeWorld(limits={"connect_timeout_s": 10})
    silent, talker = world.upgraded(), await world.connected()
    world.clock.advance(10)
    assert world.shared.handshakes.expire() == []
    for late in world.shared.connects.expire():
        late.connect_timed_out()
    assert silent.close == (3502, "stale")
    assert talker.close is None


async def test_a_client_that_vanishes_during_the_handshake_leaves_nothing() -> None:
    world = EdgeWorld()
    peer = world.peer()
    peer.feed(request()[:20])
    peer.vanish(ConnectionResetError())
    assert len(world.shared.handshakes) == 0
    assert world.counters[names.CLOSED] == 0
