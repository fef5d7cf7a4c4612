"""Frames of one connection, on bytes: what is put together, what is refused and with which code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

from gateway.metrics import names
from tests.support.edge import EdgeWorld, Peer, close_frame
from tests.support.wire import frame


def pings(*numbers: int) -> str:
    return "\n".join(json.dumps({"id": number, "ping": {}}) for number in numbers)


def answered(*numbers: int) -> list[object]:
    return [{"id": number, "ping": {}} for number in numbers]


async def test_the_answers_to_one_frame_leave_in_one_write_and_one_frame() -> None:
    peer = await EdgeWorld().connected()
    writes = len(peer.transport.writes)
    peer.send(pings(2, 3, 4))
    assert len(peer.transport.writes) == writes + 1
    (only,) = peer.news()
    assert [json.loads(line) for line in only.data.split(b"\n")] == answered(2, 3, 4)


async def test_a_message_in_pieces_is_put_together_with_control_frames_between_them() -> None:
    peer = await EdgeWorld().connected()
    payload = pings(2, 3).encode()
    peer.send(payload[:5], Opcode.TEXT, fin=False)
    peer.send(payload[5:9], Opcode.CONT, fin=False)
    peer.send(b"hello", Opcode.PING)
    peer.send(b"", Opcode.CONT, fin=False)
    peer.send(payload[9:], Opcode.CONT)
    pong, answer = peer.news()
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"hello")
    assert [json.loads(line) for line in answer.data.split(b"\n")] == answered(2, 3)


async def test_a_piece_may_end_in_the_middle_of_a_character() -> None:
    peer = await EdgeWorld().connected()
    payload = '{"id":2,"rpc":{"method":"h\u00e9"}}'.encode()
    cut = payload.index(b"\xc3") + 1
    peer.send(payload[:cut], Opcode.TEXT, fin=False)
    peer.send(payload[cut:], Opcode.CONT)
    assert peer.replies()[0]["error"]["code"] == 108


@given(cuts=st.lists(st.integers(1, 60), max_size=20))
@settings(max_examples=30, deadline=None)
def test_frames_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    async def run() -> None:
        peer = await EdgeWorld().connected()
        stream = b"".join(frame(pings(number).encode()) for number in range(2, 8))
        for size in cuts:
            peer.feed(stream[:size])
            stream = stream[size:]
        peer.feed(stream)
        assert peer.replies() == answered(*range(2, 8))

    asyncio.run(run())


async def test_several_frames_in_one_read_are_several_messages_in_order() -> None:
    peer = await EdgeWorld().connected()
    peer.feed(frame(pings(2).encode()) + frame(pings(3).encode()))
    assert peer.replies() == answered(2, 3)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what protocol objects are given to read, past the handshake."""
    sizes: list[int] = []
    receive = Protocol.receive_data

    def receive_data(protocol: Protocol, data: bytes) -> None:
        if protocol.side is Side.SERVER and protocol.state is State.OPEN:
            sizes.append(len(data))
        receive(protocol, data)

    monkeypatch.setattr(Protocol, "receive_data", receive_data)
    return sizes


async def test_whole_messages_do_not_go_through_the_protocol_object(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_reads(monkeypatch)
    peer = await EdgeWorld().connected()
    peer.send(pings(2))
    peer.feed(frame(pings(3).encode()) + frame(pings(*range(4, 14)).encode()))
    assert peer.replies() == answered(*range(2, 14))
    assert sizes == [], "not even the first one"
    peer.send(b"hello", Opcode.PING)
    whole = frame(pings(14).encode())
    peer.feed(whole[:9])
    peer.feed(whole[9:])
    assert sizes == [11, 9, len(whole) - 9]
    peer.news()
    peer.send(pings(15))
    assert peer.replies() == answered(15)
    assert sizes == [11, 9, len(whole) - 9], "it is between two frames again"


async def test_an_ordinary_client_has_no_protocol_object_until_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    make = ServerProtocol.__init__

    def making(protocol: ServerProtocol, *arguments: Any, **options: Any) -> None:
        nonlocal made
        made += 1
        make(protocol, *arguments, **options)

    monkeypatch.setattr(ServerProtocol, "__init__", making)
    world = EdgeWorld()
    peer = await world.connected()
    peer.send(pings(2))
    peer.connection.ping()
    peer.send(b"{}")
    assert peer.replies() == [*answered(2), {}]
    assert made == 0
    peer.send(close_frame(1000, "bye"), Opcode.CLOSE)
    assert (made, peer.close) == (1, (1000, "bye"))
    vanished = await world.connected("43")
    vanished.vanish(ConnectionResetError("reset"))
    assert (made, world.counters[names.CLOSED]) == (1, 1)


frames = st.builds(
    lambda opcode, data, fin, rsv: frame(data[:125] if opcode >= Opcode.CLOSE else data, opcode, fin=fin, rsv=rsv),
    st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.BINARY, Opcode.CLOSE]),
    st.sampled_from([b"", b"{", pings(2).encode(), pings(*range(3, 23)).encode(), b"x" * 70_000]),
    st.booleans(),
    st.sampled_from([0, 0, 0, 4]),
)


@given(stream=st.lists(frames, max_size=5), cut=st.integers(1, 300), damage=st.none() | st.integers(0, 300))
@settings(max_examples=150, deadline=None)
def test_a_connection_says_the_same_when_everything_goes_through_the_protocol_object(
    stream: list[bytes], cut: int, damage: int | None
) -> None:
    if damage is not None and stream:
        last = bytearray(stream[-1])
        last[damage % len(last)] ^= 0x41
        stream[-1] = bytes(last)

    async def said(*, always: bool) -> bytes:
        peer = await EdgeWorld().connected()
        before = len(peer.answer)
        for part in (part for whole in stream for part in (whole[:cut], whole[cut:])):
            if always:
                peer.connection._between = False
            if part:
                peer.feed(part)
        return peer.answer[before:]

    assert asyncio.run(said(always=True)) == asyncio.run(said(always=False))


async def test_a_bad_command_with_damage_behind_it_is_answered_and_nothing_else_happens() -> None:
    for before in (b"", frame(b"hello", Opcode.PING)):  # the second time the protocol object reads all of it
        peer = await EdgeWorld().connected()
        peer.feed(before + frame(b"") + frame(b"", fin=False) + frame(b"", fin=False))
        assert peer.close is not None
        assert peer.close[0] in (3501, 1002)


def pieces(peer: Peer, first: str, second: str, opcode: int = Opcode.CONT) -> None:
    peer.send(first, fin=False)
    peer.send(second, opcode)


VIOLATIONS: dict[str, tuple[Callable[[Peer], None], int]] = {
    "oversized": (lambda peer: peer.send("x" * 65_537), 1009),
    "oversized in pieces": (lambda peer: pieces(peer, "x" * 40_000, "x" * 40_000), 1009),
    "unmasked": (lambda peer: peer.send(pings(2), mask=False), 1002),
    "reserved bit 1": (lambda peer: peer.send(pings(2), rsv=4), 1002),
    "reserved bit 3": (lambda peer: peer.send(pings(2), rsv=1), 1002),
    "reserved opcode": (lambda peer: peer.send(b"", 0x3), 1002),
    "fragmented ping": (lambda peer: peer.send(b"", Opcode.PING, fin=False), 1002),
    "large ping": (lambda peer: peer.send(b"x" * 126, Opcode.PING), 1002),
    "continuation of nothing": (lambda peer: peer.send(b"{}", Opcode.CONT), 1002),
    "a message within a message": (lambda peer: pieces(peer, "{", "{}", Opcode.TEXT), 1002),
    "close code 1005": (lambda peer: peer.send((1005).to_bytes(2), Opcode.CLOSE), 1002),
    "close of one byte": (lambda peer: peer.send(b"\x03", Opcode.CLOSE), 1002),
    "invalid UTF-8": (lambda peer: peer.send(b'{"id":2,"rpc":{"method":"\xff"}}'), 1007),
    "invalid UTF-8 in data": (lambda peer: peer.send(b'{"id":2,"rpc":{"data":"\xed\xa0\x80"}}'), 1007),
    "binary": (lambda peer: peer.send(pings(2), Opcode.BINARY), 1003),
    "binary in pieces": (lambda peer: peer.send(pings(2), Opcode.BINARY, fin=False), 1003),
    "empty": (lambda peer: peer.send(""), 3501),
    "no JSON": (lambda peer: peer.send("hello"), 3501),
    "unsolicited pong": (lambda peer: peer.send("{}"), 3501),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
async def test_a_violation_closes_with_its_code_and_disturbs_nobody_else(violation: str) -> None:
    world = EdgeWorld()
    other, peer = await world.connected("43"), await world.connected("42")
    break_it, code = VIOLATIONS[violation]
    break_it(peer)
    assert peer.close is not None
    assert peer.close[0] == code
    assert world.counters[names.CLIENTS] == 1
    peer.send(pings(9))  # the transport would complain of an answer
    assert peer.replies() == []
    other.send(pings(2))
    assert other.replies() == answered(2)


async def test_the_largest_message_is_taken() -> None:
    peer = await EdgeWorld(limits={"message_bytes": 1024}).connected()
    message = pings(2)
    peer.send(message + " " * (1024 - len(message)))
    assert peer.replies() == answered(2)
    peer.send(message + " " * (1025 - len(message)))
    assert peer.close is not None
    assert peer.close[0] == 1009


async def test_a_websocket_ping_is_answered_with_its_payload() -> None:
    peer = await EdgeWorld().connected()
    peer.send(b"x" * 125, Opcode.PING)
    (pong,) = peer.news()
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"x" * 125)


async def test_a_websocket_pong_that_nobody_asked_for_is_ignored() -> None:
    peer = await EdgeWorld().connected()
    peer.send(b"", Opcode.PONG)
    assert peer.news() == []
    assert peer.close is None


async def test_bytes_in_are_counted() -> None:
    world = EdgeWorld()
    peer = await world.connected()
    before = world.counters[names.BYTES_IN]
    peer.send(pings(2))
    assert world.counters[names.BYTES_IN] == before + len(frame(pings(2).encode()))
