"""The JSON encoding as a whole: whatever we write we can read, whatever we read cannot hurt."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.commands import Command
from protocol.encodings import BY_SUBPROTOCOL, ENCODINGS, JSON, TEXT
from protocol.errors import DecodeError
from protocol.replies import Reply
from tests.support import strategies


@given(strategies.commands)
def test_every_command_survives_the_wire(command: Command) -> None:
    assert JSON.decode_commands(JSON.encode_command(command)) == [command]


@given(strategies.replies)
def test_every_reply_and_push_survives_the_wire(reply: Reply) -> None:
    assert JSON.decode_replies(JSON.encode_reply(reply)) == [reply]


@given(st.lists(strategies.commands, min_size=1, max_size=5))
def test_several_commands_of_one_frame_are_read_in_order(commands: list[Command]) -> None:
    assert JSON.decode_commands(JSON.join(map(JSON.encode_command, commands))) == commands


@given(st.lists(strategies.replies, min_size=1, max_size=5))
def test_several_replies_share_a_frame_one_line_each(replies: list[Reply]) -> None:
    payload = JSON.join(map(JSON.encode_reply, replies))
    assert JSON.decode_replies(payload) == replies
    assert [json.loads(line) for line in payload.split(b"\n")]
    assert payload.count(b"\n") == len(replies) - 1


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_decode_error_or_nothing(payload: bytes) -> None:
    for decode in (JSON.decode_commands, JSON.decode_replies):
        with contextlib.suppress(DecodeError):
            decode(payload)


@given(strategies.commands.map(JSON.encode_command), st.data())
def test_a_command_with_damage_raises_decode_error_or_nothing(frame: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(frame) - 1))
    damaged = frame[:at] + data.draw(st.binary(max_size=3)) + frame[at + 1 :]
    with contextlib.suppress(DecodeError):
        JSON.decode_commands(damaged)


@pytest.mark.parametrize("payload", [b"", b"\n", b" \r\n\t", b"null", b"[]", b"1", b'"connect"', b"{", b"{}}", b"\xff"])
def test_what_is_no_sequence_of_commands_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        JSON.decode_commands(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":"1","connect":{}}',
        b'{"id":1,"connect":[]}',
        b'{"id":1,"subscribe":{"channel":7}}',
        b'{"id":1,"subscribe":{"channel":"a","offset":-1.5}}',
        b'{"id":1,"publish":{"channel":"a","data":}}',
        b'{"id":1,"publish":{"channel":"a","data":{"x":\xff}}}',
        b'{"id":1,"publish":{"channel":"a","data":"\xc3("}}',
    ],
)
def test_a_command_of_the_wrong_shape_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        JSON.decode_commands(payload)


def test_invalid_utf8_is_told_apart_from_invalid_json() -> None:
    """The edge closes with 1007 for the one, 3501 for the other."""
    with pytest.raises(DecodeError) as caught:
        JSON.decode_commands(b'{"id":1,"rpc":{"method":"\xff"}}')
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)
    with pytest.raises(DecodeError) as caught:
        JSON.decode_commands(b'{"id":1,"rpc":')
    assert not isinstance(caught.value.__cause__, UnicodeDecodeError)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_without_end_is_refused_not_fatal(opening: bytes) -> None:
    with pytest.raises(DecodeError):
        JSON.decode_commands(b'{"id":1,"publish":{"channel":"a","data":' + opening * 30_000)


def test_ten_thousand_commands_in_one_frame_are_ten_thousand_commands() -> None:
    commands = JSON.decode_commands(b"\n".join(b'{"id":%d,"rpc":{}}' % number for number in range(1, 10_001)))
    assert [command.id for command in commands] == list(range(1, 10_001))


def test_fields_of_newer_sdks_are_ignored() -> None:
    (command,) = JSON.decode_commands(b'{"id":1,"future":{},"subscribe":{"channel":"a","novel":[1,2]}}')
    assert command.subscribe is not None
    assert command.subscribe.channel == "a"


def test_the_first_encoding_is_json_in_text_frames_with_an_empty_object_as_ping() -> None:
    assert ENCODINGS[0] is JSON
    assert (JSON.name, JSON.subprotocol, JSON.opcode, JSON.ping) == ("json", "centrifuge-json", TEXT, b"{}")
    assert BY_SUBPROTOCOL["centrifuge-json"] is JSON


def test_the_answer_to_a_ping_is_a_pong_and_a_send_is_none() -> None:
    assert JSON.decode_commands(JSON.ping)[0].is_pong
    (send,) = JSON.decode_commands(b'{"send":{"data":1}}')
    assert not send.is_pong
    assert send.requests == 1
