"""What a generator makes of received bytes: messages are counted however a server frames and the kernel cuts them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.chunks import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    PROTOCOL_PING,
    TEXT,
    Chunk,
    ChunkError,
    masked,
    parse,
    unmasked,
)
from loadtest.bench.messages import MESSAGE_BYTES, message


def push(sequence: int, group: int = 0) -> bytes:
    return b'{"push":{"channel":"bench","pub":{"data":%b}}}' % message(1_000 + sequence, sequence, group)


def test_a_message_in_a_frame_of_its_own_is_one_message_with_its_sequence_and_time() -> None:
    chunk = parse(unmasked(TEXT, push(7)))
    assert (chunk.messages, chunk.first, chunk.last, chunk.times_ns, chunk.tail) == (1, 7, 7, [1_007], b"")


def test_messages_joined_in_one_frame_count_like_messages_in_frames_of_their_own() -> None:
    joined = parse(unmasked(TEXT, b"\n".join(map(push, range(10)))))
    apart = parse(b"".join(unmasked(TEXT, push(sequence)) for sequence in range(10)))
    assert (joined.messages, joined.first, joined.last) == (apart.messages, apart.first, apart.last) == (10, 0, 9)


def test_a_bare_message_without_an_envelope_counts_too() -> None:
    assert parse(unmasked(TEXT, message(1, 0, 0))).messages == 1


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_of_every_length_form_are_taken_whole(size: int) -> None:
    chunk = parse(unmasked(BINARY, b"x" * size) + unmasked(TEXT, push(0)))
    assert (chunk.messages, chunk.tail, len(chunk.documents[0])) == (1, b"", size)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data())
def test_no_cut_of_the_stream_changes_what_is_counted(frames: list[int], data: st.DataObject) -> None:
    sequence, stream = 0, b""
    for messages in frames:
        stream += unmasked(TEXT, b"\n".join(push(sequence + index) for index in range(messages)))
        sequence += messages
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    tail, seen = b"", []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        chunk = parse(tail + stream[begin:end])
        tail = chunk.tail
        seen.extend(time_ns - 1_000 for time_ns in chunk.times_ns)
        assert chunk.in_order
    assert tail == b""
    assert seen == list(range(sequence))


@pytest.mark.parametrize("sequences", [(0, 2), (1, 0), (3, 3)])
def test_a_gap_or_a_repetition_inside_a_chunk_is_noticed(sequences: tuple[int, ...]) -> None:
    assert not parse(b"".join(unmasked(TEXT, push(sequence)) for sequence in sequences)).in_order


def test_messages_of_two_groups_in_one_chunk_are_noticed() -> None:
    assert not parse(unmasked(TEXT, push(0, group=0)) + unmasked(TEXT, push(1, group=1))).in_order


def test_pings_are_answered_in_kind_and_pongs_ignored() -> None:
    chunk = parse(unmasked(TEXT, PROTOCOL_PING) + unmasked(PING, b"now") + unmasked(PONG, b""))
    assert chunk.answers == masked(TEXT, PROTOCOL_PING) + masked(PONG, b"now")
    assert chunk.messages == 0


def test_replies_are_kept_as_documents() -> None:
    chunk = parse(unmasked(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{}}'))
    assert chunk.documents == [b'{"id":1,"connect":{}}', b'{"id":2,"subscribe":{}}']


@pytest.mark.parametrize(("payload", "code"), [(b"\x0b\xb9shutdown", 3001), (b"", 1005)])
def test_a_close_frame_gives_its_code(payload: bytes, code: int) -> None:
    assert parse(unmasked(CLOSE, payload)).closed == code


@pytest.mark.parametrize(
    "data",
    [masked(TEXT, b"{}"), b"\xc1\x00", b"\x01\x02ab", b"\x83\x00", b"HTTP/1.1 500 Internal Server Error"],
    ids=["masked", "reserved bit", "fragment", "unknown opcode", "HTTP"],
)
def test_what_a_server_must_not_send_is_an_error(data: bytes) -> None:
    with pytest.raises(ChunkError):
        parse(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_chunk_or_the_one_error(data: bytes) -> None:
    with suppress(ChunkError):
        assert isinstance(parse(data), Chunk)


@given(st.integers(0, 2**63), st.integers(0, 10**9), st.integers(0, 1))
def test_a_message_has_its_size_whatever_it_carries(time_ns: int, sequence: int, group: int) -> None:
    made = message(time_ns, sequence, group)
    assert len(made) == MESSAGE_BYTES
    assert b"\n" not in made
