"""The one value that a finished text becomes: small where that pays, bounded whatever it claims to be."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StreamError
from gateway.streams.text import MAX_BYTES, PLAIN, WORTH_BYTES, ZSTANDARD, pack, unpack


@given(st.text(max_size=3000))
def test_what_is_packed_comes_back(text: str) -> None:
    assert unpack(pack(text.encode())) == text.encode()


def test_long_text_is_compressed_and_short_or_noisy_text_is_not() -> None:
    prose = b"the answer is forty-two, as ever; " * 100
    packed = pack(prose)
    assert packed[:1] == ZSTANDARD
    assert len(packed) < len(prose) / 10
    assert pack(prose[: WORTH_BYTES - 1])[:1] == PLAIN
    noise = random.Random(1).randbytes(WORTH_BYTES * 4)
    assert pack(noise) == PLAIN + noise


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x07text",
        ZSTANDARD + b"no frame",
        ZSTANDARD + zstandard.ZstdCompressor().compress(b"x" * 5000)[:-3],
        ZSTANDARD + zstandard.ZstdCompressor().compress(bytes(MAX_BYTES + 1)),  # a bomb
        ZSTANDARD + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(5000)),  # says no size
    ],
)
def test_what_cannot_be_read_is_an_error_and_costs_no_memory(value: bytes) -> None:
    with pytest.raises(StreamError):
        unpack(value)
