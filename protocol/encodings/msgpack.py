"""msgpack: the model of the JSON encoding, as maps back to back in one WebSocket binary message.

`data` and other values of clients are native msgpack values, translated from and to the JSON that the gateway keeps:

- bin is binary data: `{"$binary":"<base64>"}` in JSON (`protocol.encodings.binary`), at any depth;
- JSON's integers beyond 64 bits arrive as floats; NaN and the infinities become null, as in JavaScript;
- timestamps become RFC 3339 strings; map keys that are no strings, and other extension types, are refused;
- a document that cannot be written here (nested some hundred deep) arrives as bin with the JSON text.

The messages themselves have the same field names and leave out the same zero values as in JSON.
"""

from __future__ import annotations

import binascii
import copy
from collections.abc import Iterable
from typing import Any, Final

import msgpack
import msgspec
import orjson
from msgspec import Raw

from protocol.commands import Command
from protocol.encodings.binary import KEY, MARK, from_base64
from protocol.encodings.shapes import fields_of, structs_in
from protocol.errors import DecodeError
from protocol.replies import Reply

_WRONG: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError)


class MsgpackEncoding:
    """The msgpack encoding of this gateway. Stateless."""

    __slots__ = ("_commands", "_encoder", "_parts", "_replies")

    name: Final = "msgpack"
    subprotocol: Final = "centrifuge-msgpack"
    opcode: Final = 0x2
    ping: Final = b"\x80"
    """An empty map."""
    deltas: Final = False
    """A native value has no bytes to make one of."""

    def __init__(self) -> None:
        self._commands = msgspec.msgpack.Decoder(Command)
        self._replies = msgspec.msgpack.Decoder(Reply)
        self._encoder = msgspec.msgpack.Encoder()
        self._parts = _parts_with_values()

    def decode_commands(self, payload: bytes) -> list[Command]:
        """The commands in one binary message. Raises DecodeError; an empty message is an error."""
        return self._decode(payload, self._commands)

    def decode_replies(self, payload: bytes) -> list[Reply]:
        """The replies in one binary message. Raises DecodeError."""
        return self._decode(payload, self._replies)

    def encode_command(self, command: Command) -> bytes:
        return self._encoder.encode(self._written(command))

    def encode_reply(self, reply: Reply) -> bytes:
        return self._encoder.encode(self._written(reply))

    def join(self, messages: Iterable[bytes]) -> bytes:
        return b"".join(messages)

    def shown(self, data: Raw) -> bytes:
        return bytes(data)

    def as_data(self, payload: bytes) -> Raw:
        return Raw(payload)

    def _decode(self, payload: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> list[Any]:
        if not payload:
            raise DecodeError("empty frame")
        try:
            try:
                found = [self._read(decoder.decode(payload))]
            except msgspec.DecodeError:
                # Perhaps there are several; if there is one, the error comes again.
                found = [self._read(decoder.decode(part)) for part in _split(payload)]
        except _WRONG as error:
            raise DecodeError(str(error)) from error
        return found

    def _read(self, struct: Any) -> Any:
        """`struct`, which nobody else has yet, with its values as JSON."""
        for name, kind in self._parts[type(struct)]:
            value = getattr(struct, name)
            if not value:
                continue
            if kind == "data":
                setattr(struct, name, _to_json(value))
            elif kind == "struct":
                self._read(value)
            else:
                for each in value if kind == "structs" else value.values():
                    self._read(each)
        return struct

    def _written(self, struct: Any) -> Any:
        """A copy of `struct` with its values as msgpack; itself when it has none."""
        changed: dict[str, Any] = {}
        for name, kind in self._parts[type(struct)]:
            value = getattr(struct, name)
            if not value:
                continue
            if kind == "data":
                changed[name] = _to_msgpack(value)
            elif kind == "struct":
                inner = self._written(value)
                if inner is not value:
                    changed[name] = inner
            elif kind == "structs":
                changed[name] = [self._written(each) for each in value]
            else:
                changed[name] = {key: self._written(each) for key, each in value.items()}
        if not changed:
            return struct
        struct = copy.copy(struct)
        for name, value in changed.items():
            setattr(struct, name, value)
        return struct


def _parts_with_values() -> dict[type[msgspec.Struct], list[tuple[str, str]]]:
    """Of each struct, the fields in which values of clients can be."""
    structs = structs_in(Command, Reply)
    have: set[type[msgspec.Struct]] = set()
    for _ in structs:
        have |= {
            struct
            for struct in structs
            if any(field.kind == "data" or field.struct in have for field in fields_of(struct))
        }
    return {
        struct: [
            (field.name, field.kind) for field in fields_of(struct) if field.kind == "data" or field.struct in have
        ]
        for struct in structs
    }


def _split(payload: bytes) -> Iterable[bytes]:
    """The messages of a frame that holds several. Raises DecodeError."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(payload))
    unpacker.feed(payload)
    position = 0
    while position < len(payload):
        try:
            unpacker.skip()
        except (msgpack.UnpackException, ValueError) as error:
            raise DecodeError(str(error) or "the frame ends within a message") from error
        end = unpacker.tell()
        yield payload[position:end]
        position = end


def _to_json(value: Raw) -> Raw:
    """Raises DecodeError and what msgspec raises."""
    try:
        return Raw(orjson.dumps(msgspec.msgpack.decode(value), default=_binary))
    except TypeError as error:  # orjson's own error is one
        raise DecodeError(f"no value for JSON: {error}") from error


def _binary(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {KEY: binascii.b2a_base64(value, newline=False).decode()}
    raise TypeError(f"a value of the type {type(value).__name__}")


def _to_msgpack(document: Raw) -> Raw:
    text = bytes(document)
    try:
        value = orjson.loads(text)
        if MARK in text:
            value = _with_binaries(value)
        return Raw(msgspec.msgpack.encode(value))
    except (RecursionError, orjson.JSONDecodeError):
        return Raw(msgspec.msgpack.encode(text))


def _with_binaries(value: Any) -> Any:
    """`value` with bytes in the place of their JSON form."""
    if isinstance(value, list):
        return [_with_binaries(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(found := value.get(KEY), str) and (data := from_base64(found)) is not None:
        return data
    return {key: _with_binaries(each) for key, each in value.items()}


MSGPACK: Final = MsgpackEncoding()
"""The one msgpack encoding; it keeps no state."""
