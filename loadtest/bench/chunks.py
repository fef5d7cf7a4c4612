"""Received bytes → what they contain. Pure: bytes in, counts out.

Servers differ in how they cut: one message a frame, several frames a write, several messages a frame (JSON objects
joined by a line break), and the kernel may split all of that anywhere. So the unit is the chunk, whatever one `read`
returned: frames are parsed by length, messages are counted inside them, and what is left over waits for the next chunk.
Server frames are the same bytes for every connection, so a generator parses a chunk once and compares bytes afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from loadtest.bench.messages import evidence

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes, RFC 6455 §5.2."""

PROTOCOL_PING = b"{}"
"""Payload of a Centrifuge ping in the JSON encoding."""

PONGS = {PROTOCOL_PING: PROTOCOL_PING, b"2": b"3"}
"""Pings that are text messages, and what they are answered with: Centrifuge in JSON, Engine.IO."""

_JOINED_PING = re.compile(rb"\n\{\}(?:\n|\Z)|\A\{\}\n")
"""A Centrifuge ping in one frame with messages."""


class ChunkError(Exception):
    """The server sent something that is not a WebSocket frame of the kind that is expected here."""


@dataclass(slots=True)
class Chunk:
    """What a run of bytes holds, all whole frames taken together.

    `first` and `last` are the sequence numbers at its ends (-1 without a message); `answers` are the frames that the
    connection owes for pings; `closed` is the close code, or 0; `tail` is the beginning of an unfinished frame.
    """

    messages: int = 0
    first: int = -1
    last: int = -1
    group: int = 0
    in_order: bool = True
    times_ns: list[int] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)
    answers: bytes = b""
    closed: int = 0
    tail: bytes = b""


def masked(opcode: int, payload: bytes) -> bytes:
    """A whole client frame. The masking key is zero: allowed, and it leaves the payload readable in a dump."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def unmasked(opcode: int, payload: bytes) -> bytes:
    """A whole server frame, for tests and for trying servers out."""
    frame = masked(opcode, payload)
    start = len(frame) - len(payload) - 4
    return frame[:1] + bytes((frame[1] & 0x7F,)) + frame[2:start] + payload


def parse(data: bytes) -> Chunk:
    """Parse `data`, which begins at a frame boundary. Raises `ChunkError` for anything a server must not send."""
    chunk = Chunk()
    position, end = 0, len(data)
    while end - position >= 2:
        first, second = data[position], data[position + 1]
        if second & 0x80 or first & 0x70:
            raise ChunkError(f"not a server frame: {data[position : position + 16]!r}")
        size, body = second, position + 2
        if size == 126:
            size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
        elif size == 127:
            size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        if body + size > end:
            break
        _take(chunk, first, data[body : body + size])
        position = body + size
    chunk.tail = data[position:]
    return chunk


def _take(chunk: Chunk, first_byte: int, payload: bytes) -> None:
    opcode = first_byte & 0x0F
    if opcode in (TEXT, BINARY):
        if not first_byte & 0x80:
            raise ChunkError("a fragmented message: no server here has a reason to send one")
        if payload in PONGS:
            chunk.answers += masked(TEXT, PONGS[payload])
            return
        found = evidence(payload)
        if found and _JOINED_PING.search(payload):
            chunk.answers += masked(TEXT, PROTOCOL_PING)
        elif not found:
            chunk.documents.extend(payload.split(b"\n"))
        for time_ns, sequence, group in found:
            _count(chunk, time_ns, sequence, group)
    elif opcode == PING:
        chunk.answers += masked(PONG, payload)
    elif opcode == CLOSE:
        chunk.closed = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    elif opcode != PONG:
        raise ChunkError(f"a frame with opcode {opcode}")


def _count(chunk: Chunk, time_ns: int, sequence: int, group: int) -> None:
    if chunk.messages == 0:
        chunk.first, chunk.group = sequence, group
    elif sequence != chunk.last + 1 or group != chunk.group:
        chunk.in_order = False
    chunk.messages += 1
    chunk.last = sequence
    chunk.times_ns.append(time_ns)
