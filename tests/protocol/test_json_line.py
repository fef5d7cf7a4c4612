"""`json_line`: what comes from outside fits on one line of a frame, and is still what it was."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.encodings.json import json_line
from protocol.errors import DecodeError
from tests.support.strategies import json_values


@given(json_values, st.sampled_from(["\n", "\r\n", "\r"]), st.integers(0, 4))
def test_a_pretty_printed_document_keeps_its_value_on_one_line(value: Any, newline: str, indent: int) -> None:
    document = (newline + json.dumps(value, indent=indent).replace("\n", newline) + newline).encode()
    line = json_line(document)
    assert orjson.loads(line) == orjson.loads(document)
    assert b"\n" not in line
    assert b"\r" not in line


@given(json_values)
def test_a_document_on_one_line_is_not_touched(value: Any) -> None:
    document = orjson.dumps(value)
    assert json_line(document) is document


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_json_or_raise_decode_error(document: bytes) -> None:
    try:
        line = json_line(document)
    except DecodeError:
        return
    assert json.loads(line) == json.loads(document)


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b" ", b"{} {}", b"{}\n{}", b"[1,]", b"NaN", b"Infinity", b"'a'", b'"\n"', b'"a\rb"', b"\xff", b'"\xff"'),
        *(b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b"nul", b"[" * 100_000, b'{"a":' * 100_000, b"@1 0 - -\n{}"),
    ],
    ids=lambda document: repr(document[:20]),
)
def test_what_is_not_exactly_one_json_value_is_refused(document: bytes) -> None:
    with pytest.raises(DecodeError):
        json_line(document)
