"""WebSocket frames for messages of an encoding, as a server sends them: unmasked, so the same bytes serve everyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from protocol.encodings import ENCODINGS, Encoding

JOINED_BYTES: Final = 65_536
"""Messages are joined into one frame up to about this size; a larger message has a frame of its own."""


def _frame(first: int, payload: bytes) -> bytes:
    """One complete, unfragmented message with `payload` (RFC 6455 §5.2).

    Written out because each reply has one, and the frame object of `websockets` costs several times as much. The tests
    read these bytes with its parser.
    """
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    if size < 65_536:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8, "big"), payload)


Deflate = Callable[[bytes, int], bytes | None]
"""Compresses a payload for a window of so many bits (`permessage-deflate`); None = it is better sent as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """What makes the same message the same bytes: the encoding, and whether it is compressed.

    Connections with the same framing share frames, so there must be one object for each.
    """

    encoding: Encoding
    window_bits: int = 0
    """Of the client's inflater, 9 to 15; 0 = it did not ask for compression."""
    deflate: Deflate | None = None

    def frame(self, payload: bytes) -> bytes:
        """One complete message with `payload`, compressed where that is agreed on and worth it."""
        if self.deflate is not None and (shorter := self.deflate(payload, self.window_bits)) is not None:
            return _frame(0xC0 | self.encoding.opcode, shorter)
        return _frame(0x80 | self.encoding.opcode, payload)

    def frames(self, messages: Sequence[bytes]) -> bytes:
        """`messages`, joined into as few frames as JOINED_BYTES allows."""
        join = self.encoding.join
        if len(messages) == 1:
            return self.frame(messages[0])
        parts: list[bytes] = []
        group: list[bytes] = []
        size = 0
        for message in messages:
            if group and size + len(message) > JOINED_BYTES:
                parts.append(self.frame(join(group)))
                group, size = [], 0
            group.append(message)
            size += len(message) + 1
        if group:
            parts.append(self.frame(join(group)))
        return b"".join(parts)


PLAIN: Final[Mapping[str, Framing]] = MappingProxyType({each.name: Framing(each) for each in ENCODINGS})
"""Name of an encoding → its framing without compression."""
