"""What clients say to each kind of server first, and which answers let them in."""

from __future__ import annotations

import jwt
import orjson
import pytest

from loadtest.bench.chunks import PONGS, TEXT, ChunkError, masked, parse, unmasked
from loadtest.bench.dialects import CENTRIFUGE, RAW, SOCKET_IO, TOKEN_LIFE_S
from loadtest.bench.messages import message


def payload(frame: bytes) -> bytes:
    """Of a client frame with a zero mask and an extended length of 16 bits."""
    return frame[8:]


def test_a_client_of_the_centrifuge_protocol_brings_a_token_of_its_own_and_subscribes_in_one_frame() -> None:
    secret, now_s = "s" * 32, 1_700_000_000
    frames = CENTRIFUGE.hellos([7, 8], "news", secret, now_s)
    connect, subscribe = (orjson.loads(line) for line in payload(frames[1]).split(b"\n"))
    claims = jwt.decode(connect["connect"]["token"], secret, algorithms=["HS256"], options={"verify_exp": False})
    assert (claims["sub"], claims["exp"]) == ("user-8", now_s + TOKEN_LIFE_S)
    assert subscribe == {"id": 2, "subscribe": {"channel": "news"}}
    assert frames[0] != frames[1]


def test_pushes_are_no_replies_and_errors_refuse() -> None:
    assert CENTRIFUGE.is_reply(b'{"id":1,"connect":{}}')
    assert not CENTRIFUGE.is_reply(b'{"push":{"channel":"a"}}')
    with pytest.raises(ChunkError, match="permission denied"):
        CENTRIFUGE.is_reply(b'{"id":2,"error":{"code":103,"message":"permission denied"}}')


def test_socket_io_is_open_with_the_answer_to_connect_not_with_that_of_the_transport() -> None:
    assert SOCKET_IO.hellos([1], "", "", 0) == [masked(TEXT, b"40")]
    assert not SOCKET_IO.is_reply(b'0{"sid":"a"}')
    assert SOCKET_IO.is_reply(b'40{"sid":"b"}')
    with pytest.raises(ChunkError, match="Invalid namespace"):
        SOCKET_IO.is_reply(b'44{"message":"Invalid namespace"}')


def test_a_raw_client_says_nothing_and_waits_for_nothing() -> None:
    assert (RAW.hellos([1, 2], "news", "", 0), RAW.replies) == ([b"", b""], 0)


@pytest.mark.parametrize(("ping", "pong"), PONGS.items())
def test_pings_that_are_texts_are_answered(ping: bytes, pong: bytes) -> None:
    assert parse(unmasked(TEXT, ping)).answers == masked(TEXT, pong)


@pytest.mark.parametrize("form", [b"{}\n%b", b"%b\n{}", b"%b\n{}\n%b"])
def test_a_ping_in_one_frame_with_messages_is_answered(form: bytes) -> None:
    lines = [b'{"push":{"pub":{"data":%b}}}' % message(1, sequence, 0) for sequence in range(form.count(b"%b"))]
    chunk = parse(unmasked(TEXT, form % tuple(lines)))
    assert (chunk.messages, chunk.answers, chunk.documents) == (len(lines), masked(TEXT, b"{}"), [])


def test_messages_as_socket_io_wraps_them_are_counted() -> None:
    chunk = parse(unmasked(TEXT, b'42["message",%b]' % message(5, 3, 0)))
    assert (chunk.messages, chunk.first, chunk.times_ns) == (1, 3, [5])
