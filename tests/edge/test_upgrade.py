"""The short way through the handshake takes a part of what the long way takes, and comes to the same decision."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.protocol import CONNECTING

from gateway.edge.handshake import Answer, choose_encoding, decide, origin_allowed
from gateway.edge.request import BadRequest, parse_head, take_head
from gateway.edge.upgrade import accepting_response, read_ordinary
from gateway.edge.wire import make_protocol

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Host": "gw.example.com:8000",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(
    fields: dict[str, str] = FIELDS, *, start: str = "GET /connection/websocket HTTP/1.1", end: str = "\r\n"
) -> bytes:
    return (start + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + end).encode("latin-1")


def by_the_long_way(data: bytes) -> tuple[Any, bytes] | None:
    """What the long way makes of a request: the decision and the response; None = refused."""
    try:
        if take_head(data, 0, 32768) != len(data):
            return None
        event = parse_head(data)
    except BadRequest:
        return None
    decision = decide(event, [], lambda: (True, ""))
    if isinstance(decision, Answer):
        return None
    response = make_protocol(CONNECTING, 65536).accept(event)
    return (decision, response.serialize()) if response.status_code == 101 else None


def by_the_short_way(data: bytes) -> tuple[Any, bytes] | None:
    """The same for the short way; None = left to the long way."""
    ordinary = read_ordinary(data)
    if ordinary is None or not origin_allowed(ordinary.origins, ordinary.host, []):
        return None
    decision = choose_encoding(ordinary.offered, ordinary.query)
    if isinstance(decision, Answer):
        return None
    return decision, accepting_response(ordinary.key, decision.encoding.subprotocol if ordinary.offered else None)


def headers(response: bytes) -> dict[str, str]:
    head = response.decode().lower().partition("\r\n\r\n")[0].split("\r\n")
    assert head[0].startswith("http/1.1 101 ")
    fields = dict(line.split(": ", 1) for line in head[1:])
    fields.pop("date", None)
    fields.pop("server", None)
    return fields


VALUES = {
    "Host": ["gw.example.com", "gw.example.com:8000", "[::1]:1", "", "a b"],
    "Upgrade": ["websocket", "WebSocket", "h2c", "websocket, h2c", ""],
    "Connection": [
        "Upgrade",
        "upgrade",
        "keep-alive, Upgrade",
        "close",
        "keep-alive,upgrade ",
        "",
        "up grade",
        ",upgrade",
    ],
    "Sec-WebSocket-Key": [KEY, KEY[:-1], KEY + "=", "x" * 22 + "==", "", "!" * 24, " " + KEY],
    "Sec-WebSocket-Version": ["13", "8", "13, 8", "013", "", "13 "],
    "Origin": ["https://gw.example.com", "https://evil.example", "null", "", "http://[::1"],
    "Sec-WebSocket-Protocol": [
        *(
            "centrifuge-json",
            "other, centrifuge-json",
            "other",
            "",
            " ",
            "centrifuge-json,",
            ",",
            "a b",
            "centrifuge-json;q=1",
        ),
        *("centrifuge-json , other", "\tcentrifuge-json", '"centrifuge-json"', "centrifuge-json\t,\tother"),
    ],
    "Sec-WebSocket-Extensions": ["permessage-deflate", "permessage-deflate; client_max_window_bits", ";;", ""],
    "Content-Length": ["0", "5", "x"],
    "Transfer-Encoding": ["chunked"],
    "Cookie": ["a=b; c=d", "x" * 9000],
    "X-Odd": ["caf\u00e9", "\x01", "a\tb", " padded "],
    "host": ["gw.example.com"],
    "origin": ["https://evil.example"],
    "upgrade": ["websocket"],
    "sec-websocket-protocol": ["centrifuge-json"],
    "Bad Name": ["x"],
    "Bad:Name": ["x"],
    "": ["x"],
}
starts = st.sampled_from(
    [
        *("GET /connection/websocket HTTP/1.1", "GET /connection/websocket? HTTP/1.1"),
        *(
            "GET /connection/websocket?cf_ws_frame_ping_pong=true HTTP/1.1",
            "GET /connection/websocket?format=json HTTP/1.1",
        ),
        *("GET /connection/websocket?format=protobuf HTTP/1.1", "GET /connection/websockets HTTP/1.1"),
        *(
            "POST /connection/websocket HTTP/1.1",
            "GET /connection/websocket HTTP/1.0",
            "GET  /connection/websocket HTTP/1.1",
        ),
        "GET /connection/websocket?" + "&".join(f"a{number}=1" for number in range(30)) + " HTTP/1.1",
    ]
)
changes = st.dictionaries(
    st.sampled_from(sorted(VALUES)), st.integers(0, 20).map(lambda number: number), max_size=4
).map(lambda chosen: {name: VALUES[name][number % len(VALUES[name])] for name, number in chosen.items()})


@given(
    changes,
    st.sets(st.sampled_from(sorted(FIELDS)), max_size=1),
    starts,
    st.sampled_from(["\r\n", "", "\n", "\r\n\r\n", "\r\nx"]),
)
@settings(max_examples=500, deadline=None)
@example({}, set(), "GET /connection/websocket HTTP/1.1", "\r\n")
def test_what_the_short_way_accepts_the_long_way_accepts_with_the_same_response(
    changed: dict[str, str], removed: set[str], start: str, end: str
) -> None:
    fields = {name: value for name, value in (FIELDS | changed).items() if name not in removed}
    data = request(fields, start=start, end=end)
    short = by_the_short_way(data)
    if short is None:
        return
    long = by_the_long_way(data)
    assert long is not None, data
    assert short[0] == long[0]
    assert headers(short[1]) == headers(long[1])


line_characters = st.text(string.printable + "\xe9\x00\x7f", max_size=30)


@given(st.lists(line_characters, max_size=4), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_lines_of_any_characters_are_not_accepted_where_the_long_way_refuses(lines: list[str], at: int) -> None:
    ordinary = [f"{name}: {value}" for name, value in FIELDS.items()]
    mixed = "\r\n".join(["GET /connection/websocket HTTP/1.1", *ordinary[:at], *lines, *ordinary[at:], "", ""])
    data = mixed.encode("latin-1")
    short = by_the_short_way(data)
    if short is not None:
        long = by_the_long_way(data)
        assert long is not None, data
        assert short[0] == long[0]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_left_to_the_long_way(data: bytes) -> None:
    assert read_ordinary(data) is None


@given(st.integers(0, len(request()) - 1))
def test_a_request_that_is_not_complete_is_left_to_the_long_way(size: int) -> None:
    assert read_ordinary(request()[:size]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {
            "Origin": "https://gw.example.com",
            "User-Agent": "Mozilla/5.0",
            "Sec-WebSocket-Extensions": "permessage-deflate",
        },
        {"Connection": "keep-alive, Upgrade", "Sec-WebSocket-Protocol": "centrifuge-json"},
        {"Sec-WebSocket-Protocol": ""},
        {"Cookie": "a=b", "Pragma": "no-cache", "Cache-Control": "no-cache", "Accept-Encoding": "gzip"},
    ],
)
def test_what_browsers_and_sdks_send_goes_the_short_way(fields: dict[str, str]) -> None:
    assert by_the_short_way(request(FIELDS | fields)) is not None


def test_a_body_is_left_to_the_long_way() -> None:
    assert read_ordinary(request(FIELDS | {"Content-Length": "0"})) is None
    assert read_ordinary(request(FIELDS | {"Transfer-Encoding": "chunked"})) is None


def test_a_field_that_must_stand_once_is_left_to_the_long_way_when_it_stands_twice() -> None:
    for name in ("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"):
        assert read_ordinary(request(FIELDS | {name: FIELDS.get(name, "x")})) is None
