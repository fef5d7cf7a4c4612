"""Deltas: whatever becomes whatever, they bring it there; a damaged one is refused."""

from __future__ import annotations

import contextlib
import random

import orjson
import pytest
from centrifuge.fossil import apply_delta as apply_of_the_python_sdk
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError
from protocol.fossil import apply_delta, checksum, create_delta
from tests.support import strategies


@st.composite
def changed(draw: st.DrawFn, payloads: st.SearchStrategy[bytes]) -> tuple[bytes, bytes]:
    """A payload, and what becomes of it: parts of it in another order, with others between them."""
    source = draw(payloads)
    pieces = []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            start = draw(st.integers(0, len(source)))
            pieces.append(source[start : start + draw(st.integers(0, 200))])
        else:
            pieces.append(draw(payloads)[:50])
    return source, b"".join(pieces)


LONG = st.lists(st.sampled_from([b'{"name":', b'"value ', b"1234,", b" ", "grüß dich".encode(), b"}", b"\x00\xff"]))
PAYLOADS = st.binary(max_size=300) | LONG.map(b"".join)


@given(changed(PAYLOADS))
def test_a_delta_makes_the_target_of_the_source(pair: tuple[bytes, bytes]) -> None:
    source, target = pair
    delta = create_delta(source, target)
    assert apply_delta(source, delta) == target
    assert apply_of_the_python_sdk(source, delta) == target


@given(st.text(max_size=200), st.text(max_size=30), st.text(max_size=200), st.text(max_size=30))
def test_the_delta_of_two_texts_is_a_text(start: str, old: str, end: str, new: str) -> None:
    source, target = (start + old + end).encode(), (start + new + end).encode()
    delta = create_delta(source, target)
    assert apply_delta(source, delta.decode().encode()) == target


def test_characters_are_not_cut_in_two() -> None:
    # Both characters begin with the same byte, and end with the same byte as another one.
    for source, target in (("x" * 40 + "é" + "y" * 40, "x" * 40 + "è" + "y" * 40), ("é" * 30, "Ã©" * 30)):
        delta = create_delta(source.encode(), target.encode())
        assert apply_delta(source.encode(), delta.decode().encode()) == target.encode()


@given(strategies.documents, strategies.documents)
def test_any_two_documents(one: bytes, other: bytes) -> None:
    assert apply_delta(one, create_delta(one, other)) == other


def test_the_delta_of_a_document_of_which_little_changes_is_small() -> None:
    source = random.Random(1)
    document = {f"field-{number}": source.random() for number in range(60)}
    before = orjson.dumps(document)
    for name in ("field-7", "field-30", "field-59"):
        document[name] = source.random()
    after = orjson.dumps(document)
    assert len(create_delta(before, after)) < len(after) / 10


def test_what_moves_is_found() -> None:
    rows = [b'{"id":%d,"text":"a row of some length"}' % number for number in range(20)]
    before, after = b"[" + b",".join(rows) + b"]", b"[" + b",".join(rows[10:] + rows[:10]) + b"]"
    assert len(create_delta(before, after)) < len(after) / 4


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"", 0), (b"\x01", 1 << 24), (b"\x00\x00\x00\x01" * 3, 3), (b"\xff" * 8, 2**32 - 2), (b"abcde", 0xC6626364)],
)
def test_checksums(payload: bytes, expected: int) -> None:
    assert checksum(payload) == expected


def test_what_the_format_looks_like() -> None:
    source = b"The same beginning of both, " + b"old" + b", and the same end of both."
    target = b"The same beginning of both, " + b"new" + b", and the same end of both."
    delta = create_delta(source, target)
    assert delta == b"v\nS@0,3:newR@V,2x2_Zy;"


@given(changed(PAYLOADS), st.data())
def test_a_damaged_delta_is_refused_or_says_the_same(pair: tuple[bytes, bytes], data: st.DataObject) -> None:
    source, target = pair
    delta = create_delta(source, target)
    at = data.draw(st.integers(0, len(delta)))
    damaged = delta[:at] + data.draw(st.binary(max_size=3)) + delta[at + data.draw(st.integers(0, 2)) :]
    with contextlib.suppress(DecodeError):
        apply_delta(source, damaged)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes_as_delta_raise_decode_error_or_nothing(source: bytes, delta: bytes) -> None:
    with contextlib.suppress(DecodeError):
        apply_delta(source, delta)


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"5",
        b"5\n",
        b"5\n5@0,",
        b"5\n6@0,0;",
        b"5\n5@9,0;",
        b"5\n9:ab0;",
        b"5\n5!0;",
        b"5\n5@0;0;",
        b"5\n4@0,0;",
        b"5\n5@0,1;",
    ],
)
def test_what_is_no_delta_is_refused(delta: bytes) -> None:
    with pytest.raises(DecodeError):
        apply_delta(b"hello", delta)


def test_a_target_that_is_too_large_is_refused_at_once() -> None:
    with pytest.raises(DecodeError, match="too large"):
        apply_delta(b"", b"~~~~~~\n0;")
