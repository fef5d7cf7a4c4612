"""The whole text of a stream that has ended, as one value: a byte that says how, and UTF-8 or zstandard.

Read back with a bound on its size, whatever the value claims.
"""

from __future__ import annotations

from typing import Final

import zstandard

from gateway.errors import StreamError

PLAIN: Final = b"\x00"
ZSTANDARD: Final = b"\x01"
WORTH_BYTES: Final = 1024
"""Texts from this size on are compressed, when that saves a tenth."""
MAX_BYTES: Final = 8_388_608
"""As the script allows for a stream."""


def pack(text: bytes) -> bytes:
    """The value for `text` (UTF-8)."""
    if len(text) >= WORTH_BYTES:
        packed = zstandard.ZstdCompressor(level=3).compress(text)
        if len(packed) <= len(text) * 9 // 10:
            return ZSTANDARD + packed
    return PLAIN + text


def unpack(value: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The text in a value, at most `max_bytes` of it. Raises StreamError when it is none."""
    kind, body = value[:1], value[1:]
    if kind == PLAIN:
        return body
    if kind != ZSTANDARD:
        raise StreamError("a compacted text of an unknown kind")
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= max_bytes:
            raise StreamError(f"a compacted text says that it has {size} bytes")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=max_bytes)
    except zstandard.ZstdError as error:
        raise StreamError("a compacted text cannot be read") from error
