"""Every encoding as a whole: whatever we write we can read, whatever we read cannot hurt."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from centrifuge.codecs import _ProtobufCodec
from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from protocol import client_pb2
from protocol.commands import Command, PublishRequest, SubscribeRequest
from protocol.encodings import BINARY, ENCODINGS, JSON, MSGPACK, PROTOBUF, Encoding
from protocol.errors import DecodeError
from protocol.replies import Join, Publication, PublishResult, Push, Reply, SubscribeResult
from tests.support import strategies
from tests.support.protobuf import framed, unframed

each_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)


@each_encoding
@given(command=strategies.commands)
def test_every_command_survives_the_wire(encoding: Encoding, command: Command) -> None:
    assert encoding.decode_commands(encoding.encode_command(command)) == [command]


@each_encoding
@given(reply=strategies.replies)
def test_every_reply_and_push_survives_the_wire(encoding: Encoding, reply: Reply) -> None:
    assert encoding.decode_replies(encoding.encode_reply(reply)) == [reply]


@each_encoding
@given(commands=st.lists(strategies.commands, min_size=1, max_size=5))
def test_several_commands_of_one_frame_are_read_in_order(encoding: Encoding, commands: list[Command]) -> None:
    assert encoding.decode_commands(encoding.join(map(encoding.encode_command, commands))) == commands


@each_encoding
@given(replies=st.lists(strategies.replies, min_size=1, max_size=5))
def test_several_replies_share_a_frame(encoding: Encoding, replies: list[Reply]) -> None:
    assert encoding.decode_replies(encoding.join(map(encoding.encode_reply, replies))) == replies


@each_encoding
@given(payload=st.binary(max_size=200))
def test_arbitrary_bytes_raise_decode_error_or_nothing(encoding: Encoding, payload: bytes) -> None:
    for decode in (encoding.decode_commands, encoding.decode_replies):
        with contextlib.suppress(DecodeError):
            decode(payload)


@each_encoding
@given(command=strategies.commands, data=st.data())
def test_a_command_with_damage_raises_decode_error_or_nothing(
    encoding: Encoding, command: Command, data: st.DataObject
) -> None:
    frame = encoding.encode_command(command)
    at = data.draw(st.integers(0, len(frame) - 1))
    damaged = frame[:at] + data.draw(st.binary(max_size=3)) + frame[at + 1 :]
    with contextlib.suppress(DecodeError):
        encoding.decode_commands(damaged)


@each_encoding
@given(command=strategies.commands, data=st.data())
def test_a_frame_that_was_cut_is_refused(encoding: Encoding, command: Command, data: st.DataObject) -> None:
    frame = encoding.encode_command(command)
    with pytest.raises(DecodeError):
        encoding.decode_commands(frame[: data.draw(st.integers(0, len(frame) - 1))])


@each_encoding
def test_a_ping_is_a_pong(encoding: Encoding) -> None:
    (command,) = encoding.decode_commands(encoding.ping)
    assert command.is_pong
    assert encoding.decode_replies(encoding.ping) == [Reply()]


@each_encoding
def test_a_result_without_content_is_there(encoding: Encoding) -> None:
    reply = Reply(id=7, publish=PublishResult())
    assert encoding.decode_replies(encoding.encode_reply(reply)) == [reply]


@each_encoding
def test_fields_of_a_newer_version_are_skipped(encoding: Encoding) -> None:
    known = Command(id=1, subscribe=SubscribeRequest(channel="news"))
    newer = {
        "json": b'{"id":1,"new":[1],"subscribe":{"channel":"news","newer":{"a":1}}}',
        "msgpack": b"\x83\xa2id\x01\xa3new\x91\x01\xa9subscribe\x82\xa7channel\xa4news\xa5newer\x81\xa1a\x01",
        "protobuf": b"\x12\x08\x01\xfa\x06\x01x\x2a\x0a\x0a\x04news\xfa\x06\x01x",
    }[encoding.name]
    assert encoding.decode_commands(newer) == [known]


# Binary data.

WRAPPED = Raw(b'{"$binary":"AP8="}')
BINARY_DATA = b"\x00\xff"


def publication(data: Raw) -> Reply:
    return Reply(push=Push(channel="c", pub=Publication(data=data)))


@given(st.binary(min_size=1))
def test_bytes_travel_unharmed_between_binary_encodings(payload: bytes) -> None:
    message = client_pb2.Command(id=1, publish=client_pb2.PublishRequest(channel="c", data=payload)).SerializeToString()
    (command,) = PROTOBUF.decode_commands(framed(message))
    assert command.publish is not None
    assert isinstance(command.publish.data, Raw)
    again = client_pb2.Reply.FromString(unframed(PROTOBUF.encode_reply(publication(command.publish.data))))
    found = again.push.pub.data
    if found != payload:
        # A JSON document may lose line breaks between its parts, nothing else.
        assert found == payload.replace(b"\n", b" ").replace(b"\r", b" ")


def test_each_encoding_shows_binary_data_in_its_own_way() -> None:
    assert BINARY_DATA in PROTOBUF.encode_reply(publication(WRAPPED))
    packed = msgspec.msgpack.decode(MSGPACK.encode_reply(publication(WRAPPED)))
    assert packed == {"push": {"channel": "c", "pub": {"data": BINARY_DATA}}}
    assert JSON.encode_reply(publication(WRAPPED)) == b'{"push":{"channel":"c","pub":{"data":{"$binary":"AP8="}}}}'


@pytest.mark.parametrize(
    "document",
    [b'{"$binary":"AP8=","more":1}', b'{"$binary":"AP8"}', b'{"$binary":"A P8="}', b'{"$binary":1}', b'["$binary"]'],
)
def test_what_only_looks_like_binary_data_stays_what_it_is(document: bytes) -> None:
    assert document in PROTOBUF.encode_reply(publication(Raw(document)))
    packed = msgspec.msgpack.decode(MSGPACK.encode_reply(publication(Raw(document))))
    assert packed["push"]["pub"]["data"] == msgspec.json.decode(document)


def test_spaces_do_not_matter_to_what_is_binary() -> None:
    assert BINARY_DATA in PROTOBUF.encode_reply(publication(Raw(b' { "$binary" : "AP8=" } ')))


def test_binary_data_deep_inside_a_msgpack_value_comes_back() -> None:
    value = {"file": {"name": "a", "parts": [b"\x00", b"\xff\xfe"]}}
    frame = msgspec.msgpack.encode({"id": 1, "publish": {"channel": "c", "data": value}})
    (command,) = MSGPACK.decode_commands(frame)
    assert command.publish is not None
    assert isinstance(command.publish.data, Raw)
    assert bytes(command.publish.data) == b'{"file":{"name":"a","parts":[{"$binary":"AA=="},{"$binary":"//4="}]}}'
    reply = msgspec.msgpack.decode(MSGPACK.encode_reply(publication(command.publish.data)))
    assert reply["push"]["pub"]["data"] == value


# msgpack and JSON have different numbers, keys and depths.


@pytest.mark.parametrize("key", [1, None, True, b"k"])
def test_msgpack_keys_that_are_no_strings_are_refused(key: object) -> None:
    with pytest.raises(DecodeError):
        MSGPACK.decode_commands(msgspec.msgpack.encode({"id": 1, "send": {"data": {key: 1}}}))


def test_msgpack_extension_types_are_refused() -> None:
    with pytest.raises(DecodeError, match="Ext"):
        MSGPACK.decode_commands(msgspec.msgpack.encode({"id": 1, "send": {"data": msgspec.msgpack.Ext(7, b"x")}}))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_become_null(number: float) -> None:
    (command,) = MSGPACK.decode_commands(msgspec.msgpack.encode({"send": {"data": [number]}}))
    assert command.send is not None
    assert command.send.data == Raw(b"[null]")


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**300])
def test_every_integer_of_json_gets_to_msgpack_clients(number: int) -> None:
    packed = msgspec.msgpack.decode(MSGPACK.encode_reply(publication(Raw(str(number).encode()))))
    data = packed["push"]["pub"]["data"]
    fits = -(2**63) <= number < 2**64
    assert data == number if fits else isinstance(data, float)


@pytest.mark.parametrize("depth", [10, 200, 1000])
def test_documents_of_any_depth_get_to_everybody(depth: int) -> None:
    document = b"[" * depth + b'{"$binary":"AA=="}' + b"]" * depth
    reply = publication(Raw(document))
    assert document in PROTOBUF.encode_reply(reply)
    packed = MSGPACK.encode_reply(reply)
    inner = msgspec.msgpack.decode(packed)["push"]["pub"]["data"]
    while isinstance(inner, list):
        (inner,) = inner
    assert inner in (b"\x00", document)
    assert (inner == b"\x00") == (depth < 500)


def test_a_deep_msgpack_value_is_refused_not_followed() -> None:
    frame = b"\x81\xa4send\x81\xa4data" + b"\x91" * 100_000 + b"\x01"
    with pytest.raises(DecodeError):
        MSGPACK.decode_commands(frame)


def test_numbers_that_the_schema_cannot_hold_go_out_as_the_nearest() -> None:
    reply = Reply(id=2**40, subscribe=SubscribeResult(expires=True, ttl=10**30, offset=2**70, id=-(2**70)))
    (found,) = PROTOBUF.decode_replies(PROTOBUF.encode_reply(reply))
    assert found.id == 2**32 - 1
    assert found.subscribe is not None
    assert (found.subscribe.ttl, found.subscribe.offset, found.subscribe.id) == (2**32 - 1, 2**64 - 1, -(2**63))


def test_text_that_is_no_utf_8_is_refused() -> None:
    for frame in (b"\x09\x08\x01\x2a\x05\x0a\x03a\xff\x62", b"\x81\xa9subscribe\x81\xa7channel\xa2\xff\xfe"):
        encoding = PROTOBUF if frame[0] == 9 else MSGPACK
        with pytest.raises(DecodeError):
            encoding.decode_commands(frame)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x05", b"\x80", b"\xff" * 12, b"\x80\x80\x80\x80\x80\x00", b"\x02\x08", b"\x01\x09", b"\xac\x02\x00"],
)
def test_what_is_no_sequence_of_protobuf_messages_is_refused(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        PROTOBUF.decode_commands(frame)


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x01", b"\x90", b"\x81\xa2id\xa1x", b"\x80\xc1", b"\x80\x81"])
def test_what_is_no_sequence_of_msgpack_maps_is_refused(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        MSGPACK.decode_commands(frame)


def test_a_push_of_a_join_without_info_can_be_read() -> None:
    (reply,) = PROTOBUF.decode_replies(b"\x04\x22\x02\x2a\x00")
    assert reply.push is not None
    assert isinstance(reply.push.join, Join)


def test_data_may_be_missing_or_empty() -> None:
    for encoding in ENCODINGS:
        (command,) = encoding.decode_commands(encoding.encode_command(Command(id=1, publish=PublishRequest("c"))))
        assert command.publish == PublishRequest("c")


def test_only_json_is_text() -> None:
    assert [encoding.name for encoding in ENCODINGS if encoding.opcode == BINARY] == ["protobuf", "msgpack"]


def test_the_generated_code_is_that_of_the_schema(tmp_path: Path) -> None:
    from grpc_tools import protoc

    root = Path(__file__).parents[2]
    arguments = ["protoc", f"--proto_path={root}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main([*arguments, str(root / "protocol/client.proto")]) == 0
    for name in ("client_pb2.py", "client_pb2.pyi"):
        assert (tmp_path / "protocol" / name).read_text() == (root / "protocol" / name).read_text(), "run `make proto`"


# Against Google's own reading of the schema, and the codec of an SDK.


def as_protobuf_shows_it(struct: msgspec.Struct, message: type[Message]) -> dict[str, Any]:
    """What `MessageToDict` must give for `struct`."""
    shown: dict[str, Any] = {}
    fields = message.DESCRIPTOR.fields_by_name
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if name not in fields or not value:
            continue
        if isinstance(value, Raw):
            shown[name] = base64.b64encode(bytes(value)).decode()
        elif isinstance(value, msgspec.Struct):
            shown[name] = as_protobuf_shows_it(value, fields[name].message_type._concrete_class)
        elif isinstance(value, list):
            shown[name] = [as_protobuf_shows_it(each, fields[name].message_type._concrete_class) for each in value]
        elif isinstance(value, dict):
            inner = fields[name].message_type.fields_by_name["value"].message_type
            shown[name] = {
                key: as_protobuf_shows_it(each, inner._concrete_class) if inner is not None else each
                for key, each in value.items()
            }
        else:
            wide = type(value) is int and fields[name].type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)
            shown[name] = str(value) if wide else value
    return shown


@given(strategies.replies)
def test_googles_reading_of_a_reply_is_the_same(reply: Reply) -> None:
    message = client_pb2.Reply.FromString(unframed(PROTOBUF.encode_reply(reply)))
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == as_protobuf_shows_it(
        reply, client_pb2.Reply
    )
    again = text_format.Parse(text_format.MessageToString(message), client_pb2.Reply())
    assert PROTOBUF.decode_replies(framed(again.SerializeToString())) == [reply]


@given(strategies.commands)
def test_googles_writing_of_a_command_is_understood(command: Command) -> None:
    message = json_format.ParseDict(as_protobuf_shows_it(command, client_pb2.Command), client_pb2.Command())
    assert PROTOBUF.decode_commands(framed(message.SerializeToString())) == [command]


def is_of_bidirectional_transports(reply: Reply) -> bool:
    """A push `connect` is for unidirectional ones, never sent by this gateway: the SDK has another message there."""
    return reply.push is None or reply.push.connect is None


@given(strategies.replies.filter(is_of_bidirectional_transports), strategies.commands)
def test_the_codec_of_the_python_sdk_speaks_the_same(reply: Reply, command: Command) -> None:
    shown = as_protobuf_shows_it(reply, client_pb2.Reply)
    assert _ProtobufCodec.decode_replies(PROTOBUF.encode_reply(reply)) == [shown]
    frame = _ProtobufCodec.encode_commands([as_protobuf_shows_it(command, client_pb2.Command)])
    assert PROTOBUF.decode_commands(frame) == [command]
