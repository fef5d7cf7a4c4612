"""Stored values: what was put in comes out, and nothing else does, whatever stands in Redis."""

from __future__ import annotations

import os
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.values import (
    _HEADER,
    Value,
    ValueUnreadable,
    ValueUnstorable,
    decode,
    encode,
    pack_payload,
    unpack_payload,
)

DIGEST = "ab" * 32
MAX = 1_000_000
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)


def stored(value: Any, **options: Any) -> bytes:
    return encode(DIGEST, Value("value", pack_payload(value, MAX)), **options)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = decode(DIGEST, stored(value), MAX)
    assert found.what == "value"
    assert unpack_payload(found.payload) == value


@given(st.binary(max_size=200))
def test_bytes_from_elsewhere_are_never_a_value(data: bytes) -> None:
    with pytest.raises(ValueUnreadable):
        decode(DIGEST, data, MAX)


@given(st.data())
def test_a_value_with_a_flipped_bit_is_none(data: st.DataObject) -> None:
    good = stored({"text": "Because of Rayleigh. " * data.draw(st.sampled_from([1, 200]))})
    at = data.draw(st.integers(0, len(good) * 8 - 1))
    broken = bytearray(good)
    broken[at // 8] ^= 1 << at % 8
    if at // 8 == 4:
        # What it is: the bit makes a refusal of it, or something unknown; never a value.
        try:
            assert decode(DIGEST, bytes(broken), MAX).what == "refusal"
        except ValueUnreadable:
            return
    else:
        with pytest.raises(ValueUnreadable):
            decode(DIGEST, bytes(broken), MAX)


def test_a_value_of_another_key_is_none() -> None:
    with pytest.raises(ValueUnreadable, match="another key"):
        decode("cd" * 32, stored("tenant a's"), MAX)


@pytest.mark.parametrize(("text", "compressed"), [("a" * 900, False), ("a" * 5000, True)])
def test_values_from_1_kib_on_are_compressed(text: str, compressed: bool) -> None:
    assert (len(stored(text)) < len(text) // 10) == compressed


def test_what_compression_does_not_make_a_tenth_smaller_stays_as_it_is() -> None:
    noise = os.urandom(5000)
    assert stored(noise)[_HEADER.size : _HEADER.size + 1] == b"\x00"


def bomb(claimed: int, real: int, *, frame_says: bool = True) -> bytes:
    """A value that says it has `claimed` bytes, in a frame with `real` ones."""
    body = b"\x01" + zstandard.ZstdCompressor(write_content_size=frame_says).compress(bytes(real))
    return _HEADER.pack(b"gwc", 1, 0, bytes.fromhex(DIGEST)[:16], claimed, zlib.crc32(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        bomb(500_000_000, 500_000_000),  # 500 MB in 15 KB, and honest
        bomb(100, 500_000_000),
        bomb(100, 100_000, frame_says=False),
        bomb(2**32 - 1, 10),
        bomb(MAX, 10),
    ],
)
def test_a_bomb_is_not_unpacked(data: bytes) -> None:
    with pytest.raises(ValueUnreadable):
        decode(DIGEST, data, MAX)


def test_a_value_of_the_largest_size_fits_and_no_larger_one() -> None:
    payload = pack_payload(b"x" * 1000, 1003)
    assert decode(DIGEST, encode(DIGEST, Value("value", payload)), len(payload)).payload == payload
    with pytest.raises(ValueUnreadable, match="are more than"):
        decode(DIGEST, encode(DIGEST, Value("value", payload)), len(payload) - 1)
    with pytest.raises(ValueUnstorable):
        pack_payload(b"x" * 1000, 1002)


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**70, "\ud800", lambda: None])
def test_what_msgpack_does_not_know_is_not_stored(value: Any) -> None:
    with pytest.raises(ValueUnstorable):
        pack_payload(value, MAX)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92\x01", b"\xa5hi", b"\x01\x02", b"\x81\x90\x01"])
def test_msgpack_that_is_none_is_no_value(payload: bytes) -> None:
    with pytest.raises(ValueUnreadable):
        unpack_payload(payload)
