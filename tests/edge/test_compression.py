"""permessage-deflate: what is agreed on, what is compressed, and that it is done once for everybody."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.server import ServerProtocol

from gateway.config import Delivery
from gateway.edge import Compression
from gateway.metrics import names, private_row
from protocol.encodings import ENCODINGS, JSON
from protocol.frames import PLAIN

TEXT = b'{"text":"' + b"compressible " * 100 + b'"}'


def make(**settings: object) -> tuple[Compression, memoryview[int]]:
    counters = private_row()
    return Compression(counters, Delivery.model_validate(settings)), counters


def inflated(frame: bytes) -> bytes:
    """The payload of a compressed frame. Only what needs no other message can be read like this."""
    assert frame[0] & 0x40, "RSV1"
    size, header = frame[1], 2
    if size == 126:
        size, header = int.from_bytes(frame[2:4]), 4
    assert len(frame) == header + size
    return zlib.decompressobj(-15).decompress(frame[header:] + b"\x00\x00\xff\xff")


@pytest.mark.parametrize(
    ("offers", "agreed", "bits"),
    [
        ("permessage-deflate", "", 15),
        ("permessage-deflate; client_max_window_bits", "", 15),  # Chromium
        ("permessage-deflate; client_max_window_bits; server_max_window_bits=10", "; server_max_window_bits=10", 10),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", "", 15),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "", 15),
        ("x-webkit-deflate-frame, permessage-deflate", "", 15),
        ("permessage-deflate; mux, permessage-deflate; server_max_window_bits=12", "; server_max_window_bits=12", 12),
    ],
)
def test_what_is_agreed_on(offers: str, agreed: str, bits: int) -> None:
    compression, _ = make()
    accepted = compression.accept(offers)
    assert accepted is not None
    header, extension = accepted
    start = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert header.removesuffix("; client_max_window_bits=15") == start + agreed
    assert (extension.remote_no_context_takeover, extension.local_no_context_takeover) == (True, True)
    assert compression.framing(JSON, [extension]).window_bits == bits


@pytest.mark.parametrize(
    "offers",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
    ],
)
def test_what_is_declined(offers: str) -> None:
    assert make()[0].accept(offers) is None


def test_what_is_no_offer_is_an_error() -> None:
    with pytest.raises(InvalidHeader):
        make()[0].accept("permessage-deflate; =")


PARAMETERS = st.sampled_from(
    [
        *("server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"),
        *(f"{side}_max_window_bits={bits}" for side in ("server", "client") for bits in (8, 9, 12, 15, 16)),
        "unknown",
    ]
)
OFFERS = st.lists(
    st.tuples(st.sampled_from(["permessage-deflate", "other"]), st.lists(PARAMETERS, max_size=3)),
    min_size=1,
    max_size=3,
)


@given(OFFERS)
def test_both_ways_through_the_handshake_agree_on_the_same(offers: list[tuple[str, list[str]]]) -> None:
    header = ", ".join("; ".join([name, *parameters]) for name, parameters in offers)
    compression, _ = make()
    library = ServerProtocol(extensions=compression.offered)
    expected, extensions = library.process_extensions(Headers([("Sec-WebSocket-Extensions", header)]))
    accepted = compression.accept(header)
    assert (accepted[0] if accepted is not None else None) == expected
    assert compression.framing(JSON, [accepted[1]] if accepted else []) is compression.framing(JSON, extensions)


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.name)
def test_every_window_can_be_read(encoding: object, bits: int) -> None:
    compression, _ = make()
    deflate = PerMessageDeflate(True, True, 15, bits)
    framing = compression.framing(JSON, [deflate])
    frame = framing.frame(TEXT * 40)
    inflater = zlib.decompressobj(-bits)
    assert inflater.decompress(frame[4:] + b"\x00\x00\xff\xff") == TEXT * 40


def test_short_and_incompressible_messages_stay_plain() -> None:
    compression, counters = make(compression_min_bytes=100)
    framing = compression.framing(JSON, [PerMessageDeflate(True, True, 15, 15)])
    plain = PLAIN["json"]
    for payload in (b"x" * 99, random.Random(1).randbytes(512), b""):
        assert framing.frame(payload) == plain.frame(payload)
    assert counters[names.COMPRESSED] == 0
    assert inflated(framing.frame(b"x" * 100)) == b"x" * 100


def test_messages_that_would_hold_up_the_loop_stay_plain() -> None:
    framing = make()[0].framing(JSON, [PerMessageDeflate(True, True, 15, 15)])
    assert framing.frame(b" " * 1_048_577)[0] & 0x40 == 0
    assert framing.frame(b" " * 1_048_576)[0] & 0x40


def test_each_frame_can_be_read_alone() -> None:
    framing = make()[0].framing(JSON, [PerMessageDeflate(True, True, 15, 15)])
    assert framing.frame(TEXT) == framing.frame(TEXT)
    assert inflated(framing.frame(TEXT)) == TEXT
    assert inflated(framing.frames([TEXT] * 3)) == b"\n".join([TEXT] * 3)


def test_it_is_counted() -> None:
    compression, counters = make()
    frame = compression.framing(JSON, [PerMessageDeflate(True, True, 15, 15)]).frame(TEXT)
    assert (counters[names.COMPRESSED], counters[names.COMPRESSED_FROM]) == (1, len(TEXT))
    assert counters[names.COMPRESSED_TO] == len(frame) - 2


def test_connections_with_the_same_window_share_a_framing_and_others_have_none() -> None:
    compression, _ = make()
    one, other = PerMessageDeflate(True, True, 15, 15), PerMessageDeflate(True, True, 10, 15)
    assert compression.framing(JSON, [one]) is compression.framing(JSON, [other])
    assert compression.framing(JSON, []) is PLAIN["json"]


def test_while_memory_is_short_nobody_gets_it_and_nothing_is_compressed() -> None:
    compression, _ = make()
    framing = compression.framing(JSON, [PerMessageDeflate(True, True, 15, 15)])
    compression.allowed = False
    assert compression.accept("permessage-deflate") is None
    assert compression.offered == []
    assert framing.frame(TEXT) == PLAIN["json"].frame(TEXT)
    compression.allowed = True
    assert inflated(framing.frame(TEXT)) == TEXT


def test_it_can_be_switched_off() -> None:
    compression, _ = make(compression=False)
    assert compression.accept("permessage-deflate") is None
    assert compression.offered == []
