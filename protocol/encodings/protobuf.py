"""Protobuf: each message behind its length (a varint), several back to back in one WebSocket binary message.

The messages are those of `protocol/client.proto`; the structs of `commands` and `replies` are the model, and are
translated by what their fields are. `bytes` fields of the schema are values in the model: bytes that are a JSON
document are that document, all others have the form of `protocol.encodings.binary`; no bytes = not given. Numbers that
the schema cannot hold go out as the nearest that it can.

What is easiest to break: presence. A result without content is an empty message that is there, not one that is missing.
`python -m loadtest.encodings` measures. Most commands take the short cut of `protocol.encodings.protobuf_shortcut`; all
plain fields of other messages are read in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, cast

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message
from msgspec import UNSET, Raw

from protocol import client_pb2
from protocol.commands import Command
from protocol.encodings.binary import as_document, unwrap
from protocol.encodings.protobuf_shortcut import Shortcut, read_length, shortcut
from protocol.encodings.shapes import Field, fields_of, structs_in
from protocol.errors import DecodeError
from protocol.position import Position
from protocol.replies import ClientInfo, Join, Leave, Reply

Struct = type[msgspec.Struct]
Read = Callable[[Any], Any]
Write = Callable[[Any, Any], None]
"""Writes a value into a message."""

_NAMES: Final[dict[Struct, str]] = {Position: "StreamPosition"}
"""Structs whose message has another name."""
_RANGES: Final = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
"""What the schema's integers can hold."""
_LENGTH_BYTES: Final = 5
"""A longer length is that of nothing which fits into a message."""


class ProtobufEncoding:
    """The Centrifuge Protobuf encoding. Stateless."""

    __slots__ = ("_read_command", "_read_reply", "_shortcut", "_write_command", "_write_reply")

    name: Final = "protobuf"
    subprotocol: Final = "centrifuge-protobuf"
    opcode: Final = 0x2
    ping: Final = b"\x00"
    """An empty message."""
    deltas: Final = True

    def __init__(self) -> None:
        readers: dict[Struct, Read] = {}
        self._read_command, self._read_reply = _reader(Command, readers), _reader(Reply, readers)
        self._shortcut = shortcut(Command, cast("Descriptor", client_pb2.Command.DESCRIPTOR))
        writers = {struct: _Writer(struct) for struct in structs_in(Command, Reply)}
        for writer in writers.values():
            writer.link(writers)
        self._write_command, self._write_reply = writers[Command].write, writers[Reply].write

    def decode_commands(self, payload: bytes) -> list[Command]:
        """The commands in one binary message. Raises DecodeError; an empty message is an error."""
        return _decode(payload, self._shortcut, client_pb2.Command, self._read_command)

    def decode_replies(self, payload: bytes) -> list[Reply]:
        """The replies in one binary message. Raises DecodeError."""
        return _decode(payload, _none, client_pb2.Reply, self._read_reply)

    def encode_command(self, command: Command) -> bytes:
        message = client_pb2.Command()
        self._write_command(command, message)
        return _delimited(message)

    def encode_reply(self, reply: Reply) -> bytes:
        message = client_pb2.Reply()
        self._write_reply(reply, message)
        return _delimited(message)

    def join(self, messages: Iterable[bytes]) -> bytes:
        return b"".join(messages)

    def shown(self, data: Raw) -> bytes:
        return unwrap(bytes(data))

    def as_data(self, payload: bytes) -> Raw:
        return Raw(payload)


def _decode(payload: bytes, quick: Shortcut, message_type: type[Message], read: Read) -> list[Any]:
    found = []
    position, end = 0, len(payload)
    if not end:
        raise DecodeError("empty frame")
    while position < end:
        size = payload[position]
        position += 1
        if size > 0x7F:
            try:
                if payload[position] < 0x80:
                    size += (payload[position] - 1) << 7
                    position += 1
                else:
                    size, position = read_length(payload, position - 1, _LENGTH_BYTES)
            except (IndexError, ValueError) as error:
                raise DecodeError("a message without a proper length") from error
        behind = position + size
        if behind > end:
            raise DecodeError("a message is longer than its frame")
        try:
            struct = quick(payload, position, behind)
        except (IndexError, KeyError, ValueError):
            struct = None
        if struct is None:
            try:
                struct = read(message_type.FromString(payload[position:behind]))
            except (ProtobufDecodeError, RecursionError) as error:
                raise DecodeError(str(error) or "no such message") from error
        found.append(struct)
        position = behind
    return found


def _none(_payload: bytes, _position: int, _end: int) -> None:
    """No short cut."""


def _reader(struct: Struct, made: dict[Struct, Read]) -> Read:
    """From a message to its struct. Fields that the struct does not have are not looked at.

    `made`: readers that there are already; new ones are added.
    """
    if struct in made:
        return made[struct]
    descriptor = _message_of(struct).DESCRIPTOR
    known = [field for field in fields_of(struct) if field.name in descriptor.fields_by_name]
    nested = {field.name: _reader(field.struct, made) for field in known if field.kind == "struct" and field.struct}
    plain = _plain_reader(struct, [field for field in known if field.kind != "struct"], made)
    if descriptor.oneofs:
        read = _choice_reader(plain, descriptor.oneofs[0].name, nested)
    elif nested:
        read = _nested_reader(plain, nested)
    else:
        read = plain
    made[struct] = read
    return read


def _plain_reader(struct: Struct, fields: list[Field], made: dict[Struct, Read]) -> Read:
    """Of everything but nested structs."""
    names = [field.name for field in fields]
    getter, build = _getter(names), _builder(struct, names)
    data = [place for place, field in enumerate(fields) if field.kind == "data"]
    containers = [
        (place, list if field.kind == "structs" else dict, _container_reader(field, made))
        for place, field in enumerate(fields)
        if field.kind not in ("scalar", "data")
    ]
    if not data and not containers:
        return lambda message: build(*getter(message))

    def read(message: Any) -> Any:
        values = list(getter(message))
        for place in data:
            payload = values[place]
            values[place] = Raw(as_document(payload)) if payload else UNSET
        for place, empty, translate in containers:
            found = values[place]
            values[place] = translate(found) if found else empty()
        return build(*values)

    return read


def _choice_reader(plain: Read, choice: str, nested: dict[str, Read]) -> Read:
    """Of a message in which one of `nested` is at most."""

    def read(message: Any) -> Any:
        struct = plain(message)
        if name := message.WhichOneof(choice):
            setattr(struct, name, nested[name](getattr(message, name)))
        return struct

    return read


def _nested_reader(plain: Read, nested: dict[str, Read]) -> Read:
    def read(message: Any) -> Any:
        struct = plain(message)
        for name, read_inner in nested.items():
            if message.HasField(name):
                setattr(struct, name, read_inner(getattr(message, name)))
        return struct

    return read


def _container_reader(field: Field, made: dict[Struct, Read]) -> Read:
    if field.struct is None:
        return dict
    read = _reader(field.struct, made)
    if field.kind == "structs":
        return lambda messages: [read(each) for each in messages]
    return lambda messages: {key: read(each) for key, each in messages.items()}


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Read these attributes, in one call."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        get = attrgetter(names[0])
        return lambda message: (get(message),)
    return lambda _message: ()


def _builder(struct: Struct, names: list[str]) -> Callable[..., Any]:
    """Make a struct of the values of these fields."""
    if struct in (Join, Leave):
        return lambda: struct(info=ClientInfo())
    if struct is not Position and list(struct.__struct_fields__[: len(names)]) == names:
        return struct
    return lambda *values: struct(**dict(zip(names, values, strict=True)))


class _Writer:
    """From a struct into its message. Zero values are left out, as Protobuf does."""

    __slots__ = ("_fields", "_getter", "_writes")

    def __init__(self, struct: Struct) -> None:
        self._fields = [field for field in fields_of(struct) if field.name in _fields_by_name(struct)]
        self._getter = _getter([field.name for field in self._fields])
        ranges = {name: _RANGES.get(field.type) for name, field in _fields_by_name(struct).items()}
        self._writes: list[Write] = [_write_scalar(field.name, ranges[field.name]) for field in self._fields]

    def link(self, writers: dict[Struct, _Writer]) -> None:
        """Find the writers of what is inside."""
        for number, field in enumerate(self._fields):
            if field.kind == "data":
                self._writes[number] = _write_data(field.name)
            elif field.kind == "map":
                self._writes[number] = _write_map(field.name)
            elif field.struct is not None:
                self._writes[number] = _write_nested(field, writers[field.struct])

    def write(self, struct: Any, message: Any) -> None:
        for value, write in zip(self._getter(struct), self._writes, strict=True):
            if value:  # Structs are always true, UNSET never.
                write(message, value)


def _write_scalar(name: str, bounds: tuple[int, int] | None) -> Write:
    def write(message: Any, value: Any) -> None:
        try:
            setattr(message, name, value)
        except ValueError:
            if bounds is None:
                raise
            setattr(message, name, min(max(value, bounds[0]), bounds[1]))

    return write


def _write_data(name: str) -> Write:
    return lambda message, document: setattr(message, name, unwrap(bytes(document)))


def _write_map(name: str) -> Write:
    return lambda message, values: getattr(message, name).update(values)


def _write_nested(field: Field, writer: _Writer) -> Write:
    name = field.name

    def write_one(message: Any, struct: Any) -> None:
        inner = getattr(message, name)
        inner.SetInParent()
        writer.write(struct, inner)

    def write_list(message: Any, structs: Any) -> None:
        inner = getattr(message, name)
        for struct in structs:
            writer.write(struct, inner.add())

    def write_map(message: Any, structs: Any) -> None:
        inner = getattr(message, name)
        for key, struct in structs.items():
            writer.write(struct, inner[key])

    return {"struct": write_one, "structs": write_list}.get(field.kind, write_map)


def _message_of(struct: Struct) -> type[Message]:
    found: type[Message] = getattr(client_pb2, _NAMES.get(struct, struct.__name__))
    return found


def _fields_by_name(struct: Struct) -> dict[str, Any]:
    """Name → field descriptor."""
    return {field.name: field for field in _message_of(struct).DESCRIPTOR.fields}


def _delimited(message: Message) -> bytes:
    body = message.SerializeToString()
    size = len(body)
    if size < 0x80:
        return b"%c%b" % (size, body)
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + body


PROTOBUF: Final = ProtobufEncoding()
"""The one Protobuf encoding; it keeps no state."""
