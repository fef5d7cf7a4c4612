"""JSON: one object a message, several separated by newlines in one WebSocket text message.

A raw value inside a message must not contain a newline, or it would cut the message in two: `json_line` checks and
flattens what comes from outside. JSON forbids raw control characters inside strings (RFC 8259 §7), so every raw newline
in a valid document is insignificant whitespace, and replacing it by a space changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import orjson

from protocol.commands import Command
from protocol.errors import DecodeError
from protocol.replies import Reply

_NEWLINES: Final = bytes.maketrans(b"\r\n", b"  ")
_LF: Final = 0x0A
_CR: Final = 0x0D
"""Looked for as integers: ten times as fast as `b"\n" in …`."""


class JsonEncoding:
    """The Centrifuge JSON encoding. Stateless."""

    __slots__ = ("_commands", "_encoder", "_replies")

    name: Final = "json"
    subprotocol: Final = "centrifuge-json"
    opcode: Final = 0x1
    ping: Final = b"{}"
    deltas: Final = True

    def __init__(self) -> None:
        self._commands = msgspec.json.Decoder(Command)
        self._replies = msgspec.json.Decoder(Reply)
        self._encoder = msgspec.json.Encoder()

    def decode_commands(self, payload: bytes) -> list[Command]:
        """The commands in one text message. Raises DecodeError; an empty message is an error."""
        try:
            if payload.isascii():
                commands = self._commands.decode_lines(payload)
            else:
                # RFC 6455 §8.1: a text message is UTF-8; raw values are not looked into by the decoder.
                commands = self._commands.decode_lines(payload.decode())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(str(error)) from error
        if not commands:
            raise DecodeError("empty frame")
        return commands

    def encode_command(self, command: Command) -> bytes:
        return self._encoder.encode(command)

    def decode_replies(self, payload: bytes) -> list[Reply]:
        """The replies in one text message. Raises DecodeError."""
        try:
            return self._replies.decode_lines(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(str(error)) from error

    def encode_reply(self, reply: Reply) -> bytes:
        return self._encoder.encode(reply)

    def join(self, messages: Iterable[bytes]) -> bytes:
        return b"\n".join(messages)

    def shown(self, data: msgspec.Raw) -> bytes:
        return bytes(data)

    def as_data(self, payload: bytes) -> msgspec.Raw:
        """A JSON string: a delta is no JSON, and without one the client could not tell."""
        return msgspec.Raw(self._encoder.encode(payload.decode()))


def json_line(document: bytes) -> bytes:
    """`document` as it may stand inside a JSON message: the same value, on one line.

    Raises DecodeError when it is not exactly one valid JSON value in UTF-8.
    """
    try:
        orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"not a JSON document: {error}") from error
    if _LF in document or _CR in document:
        return document.translate(_NEWLINES)
    return document


JSON: Final = JsonEncoding()
"""The one JSON encoding; it keeps no state."""
