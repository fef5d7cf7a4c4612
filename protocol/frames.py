"""WebSocket frames for messages of an encoding, as a server sends them: unmasked, so the same bytes serve everyone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.encodings import Encoding

JOINED_BYTES: Final = 65_536
"""Messages are joined into one frame up to about this size; a larger message has a frame of its own."""


def frame(encoding: Encoding, payload: bytes) -> bytes:
    """One complete, unfragmented message with `payload` (RFC 6455 §5.2).

    Written out because each reply has one, and the frame object of `websockets` costs several times as much. The tests
    read these bytes with its parser.
    """
    first, size = 0x80 | encoding.opcode, len(payload)
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    if size < 65_536:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8, "big"), payload)


def frames(encoding: Encoding, messages: Sequence[bytes]) -> bytes:
    """`messages`, joined into as few frames as JOINED_BYTES allows."""
    if len(messages) == 1:
        return frame(encoding, messages[0])
    parts: list[bytes] = []
    group: list[bytes] = []
    size = 0
    for message in messages:
        if group and size + len(message) > JOINED_BYTES:
            parts.append(frame(encoding, encoding.join(group)))
            group, size = [], 0
        group.append(message)
        size += len(message) + 1
    if group:
        parts.append(frame(encoding, encoding.join(group)))
    return b"".join(parts)
