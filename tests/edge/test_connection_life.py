"""The life of one connection: publications, pings, closing from either side, and what is left then."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Opcode

from gateway.metrics import names
from protocol.codes import SHUTDOWN
from protocol.encodings import JSON
from protocol.frames import PLAIN
from tests.support.edge import EdgeWorld, close_frame

PUBLICATION = PLAIN[JSON.name].frame(b'{"push":{"channel":"@all","pub":{"data":1}}}')


async def test_a_publication_is_written_as_it_is_in_one_write() -> None:
    peer = await EdgeWorld().connected()
    assert not peer.connection.deliver(PUBLICATION)
    assert peer.transport.writes[-1] == PUBLICATION


async def test_a_publication_from_redis_reaches_the_client() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    await world.session.publish("@all", b'{"n":1}')
    assert peer.replies() == [{"push": {"channel": "@all", "pub": {"data": {"n": 1}}}}]


async def test_a_client_whose_send_budget_is_used_up_gets_nothing_until_it_has_read() -> None:
    peer = await EdgeWorld().connected()
    writes = len(peer.transport.writes)
    peer.connection.pause_writing()
    assert peer.connection.deliver(PUBLICATION) is True
    assert len(peer.transport.writes) == writes
    peer.connection.resume_writing()
    assert not peer.connection.deliver(PUBLICATION)


async def test_a_slow_client_is_closed_with_3008_where_the_namespace_says_so() -> None:
    world = EdgeWorld(namespaces={"default": {"slow_consumer": "disconnect"}})
    peer, other = await world.connected("42"), await world.connected("43")
    peer.connection.pause_writing()
    await world.session.publish("@all", b"1")
    assert peer.close == (3008, "slow")
    assert len(other.replies()) == 1


async def test_a_client_that_asks_and_does_not_read_the_answers_is_not_read_either() -> None:
    peer = await EdgeWorld().connected()
    peer.connection.pause_writing()
    assert peer.transport.reading
    peer.send(json.dumps({"id": 2, "ping": {}}))
    assert not peer.transport.reading
    peer.connection.resume_writing()
    assert peer.transport.reading


# Closing.


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_client_s_close_is_answered_with_its_code_and_an_end(code: int) -> None:
    world = EdgeWorld()
    peer = await world.connected()
    peer.send(close_frame(code, "bye"), Opcode.CLOSE)
    assert peer.close is not None
    assert peer.close[0] == code
    assert peer.transport.half_closed
    assert world.counters[names.CLIENTS] == 0
    peer.vanish()
    assert (world.counters[names.CONNECTIONS], world.counters[names.CLOSED]) == (0, 1)


async def test_our_close_waits_for_the_client_s_and_then_ends() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    peer.connection.shut_down(SHUTDOWN)
    assert peer.close == (3001, "shutdown")
    assert not peer.transport.half_closed
    assert world.counters[names.CLIENTS] == 0
    peer.send(close_frame(3001), Opcode.CLOSE)
    assert peer.transport.half_closed


async def test_a_client_that_does_not_answer_our_close_is_cut_off() -> None:
    world = EdgeWorld(limits={"close_timeout_s": 5})
    peer = await world.connected()
    peer.connection.shut_down(SHUTDOWN)
    world.clock.advance(4.9)
    assert world.shared.closings.expire() == []
    world.clock.advance(0.1)
    (late,) = world.shared.closings.expire()
    late.close_timed_out()
    assert peer.transport.aborted


async def test_nothing_is_written_behind_a_close_frame() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    peer.connection.shut_down(SHUTDOWN)
    writes = len(peer.transport.writes)
    assert not peer.connection.deliver(PUBLICATION)  # not slow: gone
    peer.connection.send(b"{}")
    peer.connection.flush()
    peer.connection.ping()
    peer.send(json.dumps({"id": 2, "ping": {}}))
    peer.connection.shut_down(SHUTDOWN)
    await world.session.publish("@all", b"1")
    assert len(peer.transport.writes) == writes


async def test_answers_that_are_due_leave_before_the_close_frame() -> None:
    peer = await EdgeWorld().connected()
    peer.send('{"id":2,"ping":{}}\n{}')
    *answers, close = peer.news()
    assert [json.loads(each.data) for each in answers] == [{"id": 2, "ping": {}}]
    assert close.opcode is Opcode.CLOSE


async def test_a_connection_that_is_lost_leaves_everything() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    connection = peer.connection
    peer.vanish(ConnectionResetError())
    assert not connection.deliver(PUBLICATION)
    counters = world.counters
    assert [counters[each] for each in (names.CONNECTIONS, names.CLIENTS, names.SUBSCRIPTIONS)] == [0, 0, 0]
    assert (counters[names.CLOSED], world.changes) == (1, 2)
    assert world.shared.empty.is_set()


async def test_waiting_for_all_to_be_closed_ends_with_the_last_or_resets_who_is_left() -> None:
    world = EdgeWorld()
    quick, stuck = await world.connected(), await world.connected()
    quick.vanish()
    await world.shared.all_closed(timeout_s=0)
    assert stuck.transport.aborted
    stuck.vanish()
    await world.shared.all_closed(timeout_s=60)


# Pings.


async def test_a_protocol_ping_is_answered_with_the_same() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    peer.connection.ping()
    assert peer.replies() == [{}]
    peer.send("{}")
    peer.connection.check_pong()
    assert peer.close is None
    assert world.counters[names.PINGS] == 1


@pytest.mark.parametrize("pong", ["{}\n", " { }", '{}\n{"id":2,"ping":{}}', '{"id":2,"ping":{}}\n{}'])
async def test_a_pong_that_is_owed_may_share_its_frame_with_commands(pong: str) -> None:
    """A command without id and without `send` is a pong, wherever it stands."""
    peer = await EdgeWorld().connected()
    peer.connection.ping()
    peer.replies()
    peer.send(pong)
    assert peer.replies() == ([{"id": 2, "ping": {}}] if "id" in pong else [])
    peer.connection.check_pong()
    assert peer.close is None


async def test_one_ping_is_worth_one_pong() -> None:
    peer = await EdgeWorld().connected()
    peer.connection.ping()
    peer.send("{}")
    peer.send("{}")
    assert peer.close is not None
    assert peer.close[0] == 3501


async def test_who_owes_a_pong_is_closed_with_3012() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    peer.connection.check_pong()
    assert peer.close is None
    peer.connection.ping()
    peer.connection.check_pong()
    assert peer.close == (3012, "no pong")
    assert world.counters[names.NO_PONG] == 1


async def test_native_pings_are_websocket_pings() -> None:
    peer = await EdgeWorld().connected(path="/connection/websocket?cf_ws_frame_ping_pong=true")
    peer.connection.ping()
    (ping,) = peer.news()
    assert ping.opcode is Opcode.PING
    peer.send(b"", Opcode.PONG)
    peer.connection.check_pong()
    assert peer.close is None
    peer.connection.ping()
    peer.connection.check_pong()
    assert peer.close is not None
    assert peer.close[0] == 3012


async def test_while_too_many_commands_wait_the_socket_is_not_read_and_no_pong_is_missed() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    world.session.confirms = False
    peer.send(json.dumps({"id": 2, "subscribe": {"channel": "news"}}))
    peer.send("\n".join(json.dumps({"id": number, "ping": {}}) for number in range(3, 50)))
    assert not peer.transport.reading
    peer.connection.ping()
    peer.connection.check_pong()
    assert peer.close is None
    world.session.answer_redis()
    await world.session.settle()
    assert peer.transport.reading
    assert {"id": 2, "subscribe": {}} in peer.replies()


async def test_expiry_is_looked_at_with_each_ping() -> None:
    world = EdgeWorld(auth={"expired_close_delay_s": 0})
    peer = world.upgraded()
    peer.send(json.dumps({"id": 1, "connect": {"token": world.session.token(ttl_s=10)}}))
    await world.session.settle()
    world.clock.advance(11)
    peer.connection.ping()
    assert peer.close == (3005, "connection expired")
