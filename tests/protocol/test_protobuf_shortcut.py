"""The short cut for commands and Google's reading: the same, or none."""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError as ProtobufDecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from protocol import client_pb2
from protocol.commands import (
    Command,
    ConnectRequest,
    HistoryRequest,
    PublishRequest,
    RpcRequest,
    SendRequest,
    SubscribeRequest,
)
from protocol.encodings import PROTOBUF
from protocol.encodings.protobuf import ProtobufEncoding
from protocol.encodings.protobuf_shortcut import shortcut
from protocol.position import Position
from tests.support import strategies
from tests.support.protobuf import framed, unframed, varint

quick = shortcut(Command, cast("Descriptor", client_pb2.Command.DESCRIPTOR))


def by_shortcut(message: bytes, behind: bytes = b"") -> Command | None:
    """What it makes of `message` when `behind` follows in the same frame."""
    try:
        found: Command | None = quick(b"\x7f" + message + behind, 1, 1 + len(message))
    except (IndexError, KeyError, ValueError):
        return None
    return found


def by_google(message: bytes) -> Command | None:
    """None = it is refused."""
    try:
        parsed = client_pb2.Command.FromString(message)
    except ProtobufDecodeError:
        return None
    command: Command = ProtobufEncoding()._read_command(parsed)
    return command


def message_of(command: Command) -> bytes:
    return unframed(PROTOBUF.encode_command(command))


def same_or_none(message: bytes, behind: bytes = b"") -> None:
    found = by_shortcut(message, behind)
    assert found is None or found == by_google(message)


@pytest.mark.parametrize(
    "command",
    [
        Command(),
        Command(id=3),
        Command(id=1, connect=ConnectRequest(token="é" * 200, name="swift", version="1.2", data=Raw(b'{"a":1}'))),
        Command(id=300, subscribe=SubscribeRequest(channel="news", recover=True, epoch="x", offset=2**28 - 1)),
        Command(id=2, publish=PublishRequest(channel="chat", data=Raw(b'{"$binary":"AP8="}'))),
        Command(send=SendRequest(data=Raw(b"[" + b"1," * 10_000 + b"1]"))),
        Command(id=70_000, rpc=RpcRequest(method="vote", data=Raw(b"1"))),
        Command(id=5, history=HistoryRequest(channel="news", limit=10, reverse=True)),
    ],
    ids=lambda command: next((name for name in ("connect", "rpc") if getattr(command, name)), "other"),
)
def test_what_clients_send_most_is_read_by_the_shortcut(command: Command) -> None:
    assert by_shortcut(message_of(command)) == command


@pytest.mark.parametrize(
    "command",
    [
        Command(id=2**28),
        Command(id=1, connect=ConnectRequest(subs={"a": SubscribeRequest()})),
        Command(id=1, connect=ConnectRequest(headers={"a": "b"})),
        Command(id=1, history=HistoryRequest(limit=-1)),
        Command(id=1, history=HistoryRequest(since=Position(offset=1, epoch="x"))),
        Command(id=1, subscribe=SubscribeRequest(offset=2**63)),
    ],
)
def test_what_has_more_in_it_is_read_by_google(command: Command) -> None:
    assert by_shortcut(message_of(command)) is None
    assert PROTOBUF.decode_commands(PROTOBUF.encode_command(command)) == [command]


@given(strategies.commands, st.binary(max_size=5))
def test_both_read_every_command_the_same(command: Command, behind: bytes) -> None:
    same_or_none(message_of(command), behind)


@given(strategies.commands, strategies.commands)
def test_a_message_that_is_two_is_what_google_makes_of_it(one: Command, other: Command) -> None:
    same_or_none(message_of(one) + message_of(other))


@settings(max_examples=500)
@given(strategies.commands, st.data())
def test_both_read_a_damaged_command_the_same(command: Command, data: st.DataObject) -> None:
    message = message_of(command)
    at = data.draw(st.integers(0, len(message)))
    width = data.draw(st.integers(0, 3))
    same_or_none(message[:at] + data.draw(st.binary(max_size=4)) + message[at + width :])


@given(strategies.commands, st.binary(min_size=1, max_size=8), st.data())
def test_a_command_that_was_cut_does_not_go_on_in_the_next_one(
    command: Command, behind: bytes, data: st.DataObject
) -> None:
    message = message_of(command)
    same_or_none(message[: data.draw(st.integers(0, len(message)))], behind)


numbers = st.binary(min_size=1, max_size=5).map(lambda raw: bytes(each | 0x80 for each in raw[:-1]) + raw[-1:])
"""Varints, also with more bytes than they need."""
contents = st.binary(max_size=6) | st.text(max_size=3).map(str.encode)


def field_bytes(field: tuple[int, int, bytes, bytes]) -> bytes:
    number, wire_type, value, content = field
    tag = varint(number << 3 | wire_type)
    return tag + {0: value, 1: b"12345678", 2: framed(content), 5: b"1234"}[wire_type]


def fields(inside: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Any fields one behind the other, with `inside` in those that have a length."""
    tags = st.integers(0, 16), st.sampled_from([0, 1, 2, 5])
    field = st.tuples(*tags, numbers | st.integers(0, 20).map(varint), inside).map(field_bytes)
    return st.lists(field, max_size=5).map(b"".join)


@settings(max_examples=500)
@given(fields(contents | fields(contents | fields(contents | fields(contents)))))  # as deep as commands are
def test_both_read_whatever_fields_there_are_the_same(message: bytes) -> None:
    same_or_none(message)


def test_the_comparison_sees_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_arguments: Any) -> Command:
        return Command(id=77)

    monkeypatch.setitem(globals(), "quick", wrong)
    with pytest.raises(AssertionError):
        same_or_none(message_of(Command(id=1)))
