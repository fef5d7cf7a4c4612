"""WebSocket frames as a server sends them, read back by the client side of the `websockets` library."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from protocol.frames import JOINED_BYTES, PLAIN


def read(stream: bytes) -> list[bytes]:
    """Payloads of the messages in `stream`, each a complete text frame."""
    client = Protocol(Side.CLIENT, max_size=None)
    client.receive_data(stream)
    events = client.events_received()
    assert client.parser_exc is None
    assert all(isinstance(event, Frame) and event.opcode is Opcode.TEXT and event.fin for event in events)
    return [bytes(event.data) for event in events if isinstance(event, Frame)]


messages = st.lists(st.text("ab{}", min_size=1, max_size=40).map(str.encode), min_size=1, max_size=30)
large_messages = st.lists(
    st.sampled_from([1, 2, 20_000, 32_767, 32_768, 65_535, 65_536, 65_537]).map(lambda size: b"x" * size),
    min_size=1,
    max_size=6,
)


@given(messages | large_messages)
@settings(max_examples=50)
def test_all_messages_arrive_in_order(sent: list[bytes]) -> None:
    assert b"\n".join(read(PLAIN["json"].frames(sent))).split(b"\n") == sent


@given(large_messages)
@settings(max_examples=50)
def test_a_frame_of_several_messages_stays_within_the_bound_and_is_as_full_as_it_can_be(sent: list[bytes]) -> None:
    payloads = read(PLAIN["json"].frames(sent))
    for payload in payloads:
        assert len(payload) <= JOINED_BYTES or b"\n" not in payload
    for payload, following in itertools.pairwise(payloads):
        assert len(payload) + 1 + len(following.split(b"\n")[0]) > JOINED_BYTES


def test_few_messages_share_one_frame() -> None:
    assert read(PLAIN["json"].frames([b'{"a":1}', b'{"b":2}', b"{}"])) == [b'{"a":1}\n{"b":2}\n{}']


def test_exactly_the_bound_fits_and_one_byte_more_does_not() -> None:
    half = b"x" * (JOINED_BYTES // 2)
    assert len(read(PLAIN["json"].frames([half, half[:-1]]))) == 1
    assert len(read(PLAIN["json"].frames([half, half]))) == 2


def test_a_message_above_the_bound_has_a_frame_of_its_own() -> None:
    large = b"y" * (JOINED_BYTES + 1)
    assert read(PLAIN["json"].frames([b"a", large, b"b"])) == [b"a", large, b"b"]


def test_one_message_is_one_frame() -> None:
    assert PLAIN["json"].frames([b"{}"]) == PLAIN["json"].frame(b"{}") == b"\x81\x02{}"


def test_no_messages_are_no_bytes() -> None:
    assert PLAIN["json"].frames([]) == b""


def test_server_frames_are_unmasked_so_that_everyone_can_share_them() -> None:
    assert PLAIN["json"].frame(b"x" * 200)[:4] == b"\x81\x7e\x00\xc8"
