"""Admission of one connection, on bytes: whose it is, when it must wait, how it is refused."""

from __future__ import annotations

import pytest

from gateway.edge.proxy_protocol import SIGNATURE
from gateway.metrics import names
from tests.support.edge import EdgeWorld, Peer
from tests.support.wire import PATH, frame, request

PROXIED = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"


def status(peer: Peer) -> int:
    return int(peer.answer.split(b" ", 2)[1]) if peer.answer else 0


def retry_after(peer: Peer) -> int:
    (line,) = [line for line in peer.answer.split(b"\r\n") if line.lower().startswith(b"retry-after:")]
    return int(line.split(b":")[1])


# Whose connection it is.


@pytest.mark.parametrize("pieces", [1, 2])
async def test_behind_a_trusted_proxy_the_client_has_its_own_address(pieces: int) -> None:
    """In one piece it is an ordinary request, in two the library reads it."""
    world = EdgeWorld(server={"trusted_proxies": ["10.0.0.0/8"]})
    peer = world.peer("10.0.0.1")
    data = request(X_Forwarded_For="6.6.6.6, 203.0.113.9")
    peer.feed(data[: len(data) // pieces])
    if pieces > 1:
        peer.feed(data[len(data) // pieces :])
    assert peer.connection.peer == "203.0.113.9:0"
    stranger = world.peer("192.0.2.1")
    stranger.feed(request(X_Forwarded_For="203.0.113.9"))
    assert stranger.connection.peer == "192.0.2.1:1234"


async def test_the_header_of_the_proxy_protocol_names_the_client_however_it_arrives() -> None:
    world = EdgeWorld(server={"proxy_protocol": True})
    whole, slow = world.peer(), world.peer()
    whole.feed(PROXIED + request())
    assert whole.connection.peer == "203.0.113.9:4711"
    for byte in PROXIED + request():
        slow.feed(bytes((byte,)))
    assert slow.connection.peer == "203.0.113.9:4711"


async def test_a_check_of_the_load_balancer_itself_is_answered() -> None:
    peer = EdgeWorld(server={"proxy_protocol": True}).peer()
    peer.feed(SIGNATURE + b"\x20\x00\x00\x00" + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(peer) == 200


@pytest.mark.parametrize("data", [request(), b"PROXY TCP4 nonsense\r\n", SIGNATURE + b"\x99" * 10, b"\x16\x03\x01"])
async def test_without_a_proper_header_the_connection_is_closed_without_a_word(data: bytes) -> None:
    world = EdgeWorld(server={"proxy_protocol": True})
    peer = world.peer()
    peer.feed(data)
    assert peer.transport.closing
    assert not peer.answer
    peer.feed(PROXIED + request())
    assert not peer.answer
    peer.vanish()
    assert world.counters[names.REFUSED_PROXY] == 1
    assert len(world.shared.handshakes) == 0


async def test_only_trusted_proxies_may_introduce_clients() -> None:
    world = EdgeWorld(server={"proxy_protocol": True, "trusted_proxies": ["10.0.0.0/8"]})
    stranger, proxy = world.peer("192.0.2.1"), world.peer("10.0.0.1")
    stranger.feed(PROXIED + request())
    assert stranger.transport.closing
    assert not stranger.answer
    proxy.feed(PROXIED + request(X_Forwarded_For="6.6.6.6"))
    assert proxy.connection.peer == "203.0.113.9:4711", "the client is no proxy: what it says is not believed"


async def test_a_proxy_behind_a_load_balancer_may_name_the_client() -> None:
    world = EdgeWorld(server={"proxy_protocol": True, "trusted_proxies": ["10.0.0.0/8"]})
    peer = world.peer("10.0.0.1")
    peer.feed(b"PROXY TCP4 10.0.0.2 10.0.0.1 1 2\r\n" + request(X_Forwarded_For="203.0.113.9"))
    assert peer.connection.peer == "203.0.113.9:0"


async def test_who_sends_nothing_at_all_is_cut_off_as_ever() -> None:
    world = EdgeWorld(server={"proxy_protocol": True})
    peer = world.peer()
    peer.feed(PROXIED[:10])
    world.clock.advance(world.config.limits.connect_timeout_s)
    for late in world.shared.handshakes.expire():
        late.handshake_timed_out()
    assert peer.transport.aborted
    assert world.counters[names.REFUSED_TIMEOUT] == 1


# Connections of one address.


async def test_one_address_has_as_many_connections_as_are_allowed() -> None:
    world = EdgeWorld(limits={"connections_per_ip": 2})
    first, _ = world.upgraded(), world.upgraded()
    third = world.peer()
    third.feed(request())
    assert (status(third), retry_after(third)) == (429, 15)
    assert third.transport.half_closed
    assert world.counters[names.REFUSED_ADDRESS] == 1
    elsewhere = world.peer("192.0.2.2")
    elsewhere.feed(request())
    assert status(elsewhere) == 101
    third.vanish()
    first.vanish()
    assert status(world.upgraded()) == 101, "there is room again"
    fourth = world.peer()
    fourth.feed(request())
    assert status(fourth) == 429


async def test_a_refusal_says_so_to_those_whose_request_the_library_reads_too() -> None:
    world = EdgeWorld(limits={"connections_per_ip": 1})
    world.upgraded()
    peer = world.peer()
    data = request()
    peer.feed(data[:30])
    peer.feed(data[30:])
    assert status(peer) == 429
    assert peer.transport.half_closed


async def test_an_ipv6_household_counts_as_one_address() -> None:
    world = EdgeWorld(limits={"connections_per_ip": 1})
    one, other, neighbour = (world.peer(host) for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"))
    for peer in (one, other, neighbour):
        peer.feed(request())
    assert [status(peer) for peer in (one, other, neighbour)] == [101, 429, 101]


async def test_whoever_leaves_in_whatever_way_leaves_its_place() -> None:
    world = EdgeWorld(
        limits={"connections_per_ip": 1, "max_connections": 1, "handshakes_per_s": 1}, server={"allowed_origins": ["*"]}
    )
    bad_version = request(Sec_WebSocket_Version="8")
    for data in (request(), bad_version, request(PATH + "?format=x"), b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"):
        peer = world.peer()
        peer.feed(data)
        world.clock.advance(10)
        peer.vanish()
    full = world.peer("192.0.2.9")
    full.feed(request())
    world.clock.advance(10)
    turned_away = world.peer()
    turned_away.feed(request())
    assert turned_away.close == (1013, "try again later")
    turned_away.vanish()
    waiting = world.peer()
    waiting.feed(request())
    assert not waiting.answer
    waiting.vanish()
    full.vanish()
    world.clock.advance(10)
    assert status(world.upgraded()) == 101
    assert world.addresses is not None
    assert world.addresses.enter("192.0.2.1") == 2


# The pace.


def exhaust(world: EdgeWorld) -> None:
    while world.pace.take():
        pass


@pytest.mark.parametrize("pieces", [1, 2])
async def test_in_a_storm_a_handshake_waits_for_its_turn_and_is_not_read_meanwhile(pieces: int) -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 100})
    exhaust(world)
    peer = world.peer()
    data = request()
    if pieces > 1:
        peer.feed(data[:50])
        data = data[50:]
    peer.feed(data)
    assert not peer.answer
    assert not peer.transport.reading
    assert world.counters[names.CONNECTIONS] == 0
    world.clock.advance(0.01)
    world.pace.tick()
    assert status(peer) == 101
    assert peer.transport.reading
    assert world.counters[names.CONNECTIONS] == 1
    await peer.connect()


async def test_what_came_with_the_request_is_not_lost_while_it_waits() -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 100}, auth={"anonymous": True})
    world.session.hub.redis.away = True
    exhaust(world)
    peer = world.peer()
    peer.feed(request() + frame(b'{"id":1,"connect":{}}'))
    world.clock.advance(0.01)
    world.pace.tick()
    assert peer.replies()[0]["id"] == 1


async def test_when_too_many_wait_the_next_are_told_to_come_back_at_different_times() -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 1, "handshakes_waiting": 4})
    exhaust(world)
    waiting = [world.peer() for _ in range(4)]
    late = world.peer()
    for peer in (*waiting, late):
        peer.feed(request())
    assert [status(peer) for peer in waiting] == [0] * 4
    assert (status(late), retry_after(late)) == (503, 6), "4 s, and half as much again"
    assert late.transport.half_closed
    assert world.counters[names.REFUSED_PACE] == 1
    late.vanish()
    waiting[0].vanish()
    again = world.peer()
    again.feed(request())
    assert status(again) == 0, "it waits: one has left the queue"


async def test_health_is_answered_in_a_storm_too() -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 1})
    exhaust(world)
    peer = world.peer()
    peer.feed(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(peer) == 200


async def test_nobody_waits_longer_than_until_its_handshake_times_out() -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 10, "handshakes_waiting": 10_000, "connect_timeout_s": 10})
    exhaust(world)
    peers = [world.peer() for _ in range(51)]
    for peer in peers:
        peer.feed(request())
    assert [status(peer) for peer in peers] == [0] * 50 + [503]


async def test_a_turn_that_comes_too_late_changes_nothing() -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 1})
    exhaust(world)
    peer = world.peer()
    peer.feed(request())
    world.clock.advance(10)
    for late in world.shared.handshakes.expire():
        late.handshake_timed_out()
    assert peer.transport.aborted
    world.pace.tick()
    assert not peer.answer


# The maximum age.


async def test_a_connection_that_is_too_old_is_told_to_reconnect() -> None:
    world = EdgeWorld(server={"max_connection_age_s": 100})
    peer = await world.connected()
    wheel = world.shared.wheel
    for _ in range(int(100 / wheel.tick_s)):
        wheel.tick()
        peer.send("{}") if peer.replies() == [{}] else None
    assert peer.close == (3011, "force reconnect")
    assert world.counters[names.AGED] == 1
    assert world.counters[names.NO_PONG] == 0
