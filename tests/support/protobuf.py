"""Protobuf on the wire, written without the code that is tested."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """The bytes of a number that is not negative."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def framed(message: bytes) -> bytes:
    """`message` behind its length."""
    return varint(len(message)) + message


def unframed(frame: bytes) -> bytes:
    """The one message of a frame."""
    return frame[next(index for index, byte in enumerate(frame) if byte < 0x80) + 1 :]
