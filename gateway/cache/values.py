"""The form of a stored value: a header that says whose it is and how it is encoded, then msgpack, maybe compressed.

    bytes  0-2   "gwc"        3   version        4   what it is: a value, or a refusal
    bytes  5-20  first half of the key's digest: a value under another key is no value
    bytes 21-24  size of the msgpack before compression      25-28   CRC-32 of all that follows
    then         0x00 and msgpack, or 0x01 and zstandard (from 1 KiB on, if that saves a tenth)

Never pickle: what is read from Redis is data, whoever wrote it. The rule that is easiest to break: a value that cannot
be read is no error of the caller's but an answer that nobody has, whatever is wrong with it.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final, Literal, NamedTuple

import msgpack

from gateway.errors import CacheError, StreamError
from gateway.streams.text import pack, unpack

_HEADER: Final = struct.Struct("!3sBB16sII")
_MAGIC: Final = b"gwc"
VERSION: Final = 1
_WHAT: Final = ("value", "refusal")

What = Literal["value", "refusal"]


class ValueUnreadable(CacheError):
    """Bytes that are no value of this form and key: damaged, of another version, or too large."""


class ValueUnstorable(CacheError):
    """A value that has no such form: not made of None, bool, int, float, str, bytes, lists and dicts, or too large."""


class Value(NamedTuple):
    """What is stored, before compression."""

    what: What
    payload: bytes
    """msgpack."""


def pack_payload(value: Any, max_bytes: int) -> bytes:
    """msgpack of `value`; a tuple becomes a list. Raises ValueUnstorable."""
    try:
        payload: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueUnstorable(f"a {type(value).__name__} cannot be stored: {error}") from error
    if len(payload) > max_bytes:
        raise ValueUnstorable(f"{len(payload)} bytes are more than {max_bytes}")
    return payload


def unpack_payload(payload: bytes) -> Any:
    """A new object each time, which is the caller's own. Raises ValueUnreadable."""
    try:
        return msgpack.unpackb(payload, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ValueUnreadable("its msgpack cannot be read") from error


def encode(digest: str, value: Value) -> bytes:
    """The bytes for Redis."""
    body = pack(value.payload)
    owner = bytes.fromhex(digest)[:16]
    what = _WHAT.index(value.what)
    return _HEADER.pack(_MAGIC, VERSION, what, owner, len(value.payload), zlib.crc32(body)) + body


def decode(digest: str, data: bytes, max_bytes: int) -> Value:
    """Raises ValueUnreadable. Takes no more memory than `max_bytes`, whatever `data` claims."""
    if len(data) < _HEADER.size:
        raise ValueUnreadable("too short")
    magic, version, what, owner, size, checksum = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    if magic != _MAGIC or version != VERSION or what >= len(_WHAT):
        raise ValueUnreadable("of an unknown version")
    if owner != bytes.fromhex(digest)[:16]:
        raise ValueUnreadable("it belongs to another key")
    if zlib.crc32(body) != checksum:
        raise ValueUnreadable("damaged")
    if size > max_bytes:
        raise ValueUnreadable(f"{size} bytes are more than {max_bytes}")
    try:
        payload = unpack(body, max_bytes=size)
    except StreamError as error:
        raise ValueUnreadable(str(error)) from error
    if len(payload) != size:
        raise ValueUnreadable("its size is another one")
    return Value("value" if what == 0 else "refusal", payload)
