"""One message model, several encodings, behind one small interface.

An encoding is stateless: the same object serves every connection. `encode_*` gives the bytes of one message, which may
stand alone in a WebSocket message; `join` puts several of them into what one WebSocket message carries. Values of
clients (`data` and the like) are JSON in the model, whatever the encoding: `protocol.encodings.binary` says what that
makes of binary data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Raw

from protocol.commands import Command
from protocol.encodings.json import JSON
from protocol.encodings.msgpack import MSGPACK
from protocol.encodings.protobuf import PROTOBUF
from protocol.replies import Reply

TEXT: Final = 0x1
BINARY: Final = 0x2
"""Opcodes of RFC 6455 §5.2."""


class Encoding(Protocol):
    """How messages of one client look on the wire."""

    @property
    def name(self) -> str:
        """`json`, `protobuf` or `msgpack`: for logs, metrics and benchmarks."""
        ...

    @property
    def subprotocol(self) -> str:
        """The `Sec-WebSocket-Protocol` that asks for it."""
        ...

    @property
    def opcode(self) -> int:
        """TEXT or BINARY: the WebSocket message type that carries it."""
        ...

    @property
    def ping(self) -> bytes:
        """One whole WebSocket payload: the server's ping, and the client's pong."""
        ...

    def decode_commands(self, payload: bytes) -> list[Command]:
        """The commands in one WebSocket message, in order. Raises DecodeError and nothing else."""
        ...

    def encode_command(self, command: Command) -> bytes:
        """For clients: one command."""
        ...

    def decode_replies(self, payload: bytes) -> list[Reply]:
        """For clients: the replies and pushes in one WebSocket message. Raises DecodeError and nothing else."""
        ...

    def encode_reply(self, reply: Reply) -> bytes:
        """One reply or push."""
        ...

    def join(self, messages: Iterable[bytes]) -> bytes:
        """The payload of one WebSocket message that carries all `messages`."""
        ...

    @property
    def deltas(self) -> bool:
        """Whether clients can have the data of publications as deltas."""
        ...

    def shown(self, data: Raw) -> bytes:
        """The bytes that a delta is made of: `data` as clients see it."""
        ...

    def as_data(self, payload: bytes) -> Raw:
        """`data` for a subscriber with deltas: `payload` is what `shown` gave, or a delta (`protocol.fossil`)."""
        ...


ENCODINGS: Final[tuple[Encoding, ...]] = (JSON, PROTOBUF, MSGPACK)
"""Every encoding that this version speaks. The first is for clients that name none."""

BY_SUBPROTOCOL: Final = {encoding.subprotocol: encoding for encoding in ENCODINGS}
"""Subprotocol → encoding."""

__all__ = ["BINARY", "BY_SUBPROTOCOL", "ENCODINGS", "JSON", "MSGPACK", "PROTOBUF", "TEXT", "Encoding"]
