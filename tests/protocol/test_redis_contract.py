"""What backends write to Redis: bare JSON, envelopes, and everything that is neither."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from protocol.encodings import JSON
from protocol.errors import EnvelopeError
from protocol.position import Position
from protocol.redis_contract import (
    Metadata,
    control_channel,
    decode_payload,
    encode_envelope,
    publish_channel,
)
from protocol.replies import ClientInfo, Publication, Push, Reply
from tests.support import strategies

positions = st.builds(
    Position,
    offset=st.integers(1, 10**19 - 1),
    epoch=st.text("abcdefABCDEF0123456789-_.", min_size=1, max_size=12).filter(lambda epoch: epoch != "-"),
)
infos = st.none() | strategies.of_type(ClientInfo)
tags = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


def delivered(payload: bytes) -> bytes:
    """What a JSON client gets for a payload."""
    return JSON.encode_reply(Reply(push=Push(channel="a", pub=decode_payload(payload).publication)))


@given(strategies.documents, infos, tags, st.none() | positions)
def test_an_envelope_gives_back_what_was_put_in(
    data: bytes, info: ClientInfo | None, tags: dict[str, str], position: Position | None
) -> None:
    received = decode_payload(encode_envelope(data, Metadata(info, tags), position))
    assert received.position == position
    offset = position.offset if position is not None else 0
    assert received.publication == Publication(data=Raw(data), info=info, tags=tags, offset=offset)


@given(strategies.json_values, st.integers(0, 4), st.booleans())
def test_bare_json_however_it_is_printed_is_delivered_on_one_line(
    value: object, indent: int, in_envelope: bool
) -> None:
    document = json.dumps(value, indent=indent).encode() + b"\r\n"
    wire = delivered(encode_envelope(document, Metadata(), Position(offset=7, epoch="e")) if in_envelope else document)
    assert b"\n" not in wire
    assert b"\r" not in wire
    assert orjson.loads(wire)["push"]["pub"]["data"] == orjson.loads(document)


@pytest.mark.parametrize(
    ("payload", "offset", "epoch"),
    [
        (b"@1 42 xyz -\n{}", 42, "xyz"),
        (b'@1 1 e {"tags":{"a":"b"}}\n[]', 1, "e"),
        (b"@1 9999999999999999999 e -\n0", None, "e"),
    ],
)
def test_an_envelope_written_by_hand_has_its_position(payload: bytes, offset: int | None, epoch: str) -> None:
    assert decode_payload(payload).position == Position(offset=offset or 9_999_999_999_999_999_999, epoch=epoch)


@pytest.mark.parametrize("payload", [b'{"text":"hi"}', b" [1]", b'"@1 5 e -"', b"@1 0 - -\n{}"])
def test_a_publication_that_is_in_no_log_has_no_position(payload: bytes) -> None:
    received = decode_payload(payload)
    assert received.position is None
    assert received.publication.offset == 0


def test_an_envelope_says_who_published_and_only_what_there_is_to_say() -> None:
    info = ClientInfo("u", "c", conn_info=Raw(b'{"n":1}'))
    assert encode_envelope(b"{}", Metadata(info=info)) == (
        b'@1 0 - {"info":{"user":"u","client":"c","conn_info":{"n":1}}}\n{}'
    )
    assert encode_envelope(b"{}", Metadata(), Position(offset=3, epoch="e")) == b"@1 3 e -\n{}"


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"@", b"@1", b"@1 ", b"@2 1 e -\n{}", b"@1 1 e -", b"@1 1 e\n{}", b"@1 x e -\n{}", b"@1 -1 e -\n{}"),
        *(b"@1 1  -\n{}", b"@1 1 \xff -\n{}", b"@1 1 e {\n{}", b"@1 1 e []\n{}", b'@1 1 e {"tags":{"a":1}}\n{}'),
        *(
            b'@1 1 e {"info":{"user":7}}\n{}',
            b"@1 1 e -\n",
            b"@1 1 e -\n{",
            b"@1 1 e -\n{} {}",
            b"@1 99999999999999999999 e -\n{}",
        ),
        *(b"hello", b"{", b"{}{}", b"\xff", b'"\xff"', b"\x00", b"[" * 100_000, b"@1 1 e " + b"[" * 100_000 + b"\n{}"),
        b"@1 1 e " + b'{"info":{"conn_info":' + b"[" * 100_000 + b"\n{}",
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_what_is_neither_json_nor_an_envelope_is_refused(payload: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_payload(payload)


@pytest.mark.parametrize("field", ["conn_info", "chan_info"])
def test_invalid_utf8_in_raw_metadata_is_refused_not_delivered(field: str) -> None:
    """A text frame with such bytes in it would make every subscriber fail its connection (RFC 6455 §8.1)."""
    with pytest.raises(EnvelopeError):
        decode_payload(b'@1 0 - {"info":{"%b":"\xff"}}\n{}' % field.encode())


envelope_parts = st.lists(
    st.sampled_from(
        [
            b"@1 ",
            b"@",
            b"1",
            b"0",
            b" ",
            b"-",
            b"\n",
            b"e",
            b"{}",
            b"{",
            b'"',
            b'{"info":{"conn_info":',
            b"}}",
            b"\xff",
            b"[1]",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(st.binary(max_size=60) | envelope_parts | st.binary(max_size=40).map(b"@1 0 - ".__add__))
def test_arbitrary_bytes_are_refused_or_make_one_valid_line(payload: bytes) -> None:
    try:
        wire = delivered(payload)
    except EnvelopeError:
        return
    assert b"\n" not in wire
    json.loads(wire.decode())


def test_names_in_redis_begin_with_the_prefix() -> None:
    assert publish_channel("gw", "team:news") == b"gw:pub:team:news"
    assert control_channel("gw") == b"gw:control"
