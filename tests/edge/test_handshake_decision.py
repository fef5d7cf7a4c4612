"""What a request on the public port gets: origins, subprotocols, paths. A request in, a decision out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request

from gateway.edge.handshake import Answer, Upgrade, decide
from protocol.encodings import JSON

PATH = "/connection/websocket"


def ask(
    *headers: tuple[str, str],
    path: str = PATH,
    method: str = "GET",
    host: str | None = "gw.example.com",
    allowed: Sequence[str] = (),
    ready: bool = True,
) -> Upgrade | Answer:
    fields = Headers()
    for name, value in (*((("Host", host),) if host is not None else ()), *headers):
        fields[name] = value
    return decide(Request(path, fields, method), allowed, lambda: (ready, "a word"))


def status(decision: Upgrade | Answer) -> int:
    return 101 if isinstance(decision, Upgrade) else decision.status.value


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("gw.example.com", "https://gw.example.com", 101),
        ("gw.example.com", "http://gw.example.com:3000", 101),
        ("gw.example.com:8000", "https://gw.example.com", 101),
        ("GW.example.com:8000", "https://gw.EXAMPLE.com:1", 101),
        ("127.0.0.1:8000", "http://127.0.0.1:9000", 101),
        ("[::1]:8000", "http://[::1]:9000", 101),
        ("[2001:db8::1]", "https://[2001:DB8::1]", 101),
        ("gw.example.com", "https://evil.example", 403),
        ("gw.example.com", "https://example.com", 403),
        ("gw.example.com", "https://gw.example.com.evil.example", 403),
        ("gw.example.com", "https://evil.example/gw.example.com", 403),
        ("gw.example.com", "https://gw.example.com@evil.example", 403),
        ("gw.example.com", "https://evil-gw.example.com", 403),
        ("[::1]:8000", "http://[::2]:8000", 403),
        ("[::1]:8000", "http://[::1", 403),
        ("gw.example.com", "null", 403),
        ("gw.example.com", "", 403),
        ("gw.example.com", "gw.example.com", 403),
        (None, "https://gw.example.com", 403),
        ("", "https://gw.example.com", 403),
        ("gw.example.com:8000:9000", "https://gw.example.com", 403),
    ],
)
def test_by_default_only_pages_of_the_same_host_may_connect_whatever_their_port(
    host: str | None, origin: str, expected: int
) -> None:
    assert status(ask(("Origin", origin), host=host)) == expected


def test_who_sends_no_origin_is_no_browser() -> None:
    assert status(ask()) == 101
    assert status(ask(allowed=["https://app.example.com"])) == 101


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (["https://app.example.com"], "https://app.example.com", 101),
        (["https://app.example.com"], "https://app.example.com:444", 403),
        (["https://app.example.com"], "http://app.example.com", 403),
        (["https://app.example.com"], "https://gw.example.com", 403),
        (["https://app.example.com"], "null", 403),
        (["null"], "null", 101),
        (["*"], "https://anywhere.example", 101),
        (["*"], "null", 101),
    ],
)
def test_a_list_of_origins_is_matched_exactly(allowed: list[str], origin: str, expected: int) -> None:
    assert status(ask(("Origin", origin), allowed=allowed)) == expected


@pytest.mark.parametrize("allowed", [[], ["https://gw.example.com"], ["*"]])
def test_several_origins_are_none(allowed: list[str]) -> None:
    origin = ("Origin", "https://gw.example.com")
    assert status(ask(origin, origin, allowed=allowed)) == 403


def test_several_hosts_are_none() -> None:
    assert status(ask(("Origin", "https://gw.example.com"), ("Host", "gw.example.com"))) == 403


def test_a_refused_origin_is_told_where_to_be_allowed() -> None:
    decision = ask(("Origin", "https://evil.example"))
    assert isinstance(decision, Answer)
    assert decision.reason == "origin"
    assert "server.allowed_origins" in decision.text


HEADER_TEXT = st.text([chr(code) for code in (*range(0x20, 0x7F), 0xE9)], max_size=40)


@given(HEADER_TEXT, HEADER_TEXT)
def test_no_text_in_origin_and_host_raises(origin: str, host: str) -> None:
    assert status(ask(("Origin", origin), host=host)) in (101, 403)


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([], 101),
        ([""], 101),
        (["  "], 101),
        (["", ""], 101),
        (["centrifuge-json"], 101),
        (["other, centrifuge-json"], 101),
        (["other", "centrifuge-json"], 101),
        (["other"], 400),
        (["centrifuge-avro"], 400),
        (["not a token"], 400),
        ([",;"], 400),
    ],
)
def test_which_subprotocols_become_json(offers: list[str], expected: int) -> None:
    decision = ask(*(("Sec-WebSocket-Protocol", offer) for offer in offers))
    assert status(decision) == expected
    assert expected != 101 or (isinstance(decision, Upgrade) and decision.encoding is JSON)


@pytest.mark.parametrize("name", ["json", "protobuf", "msgpack"])
def test_every_encoding_can_be_asked_for_in_three_ways(name: str) -> None:
    for decision in (
        ask(("Sec-WebSocket-Protocol", f"centrifuge-{name}")),
        ask(path=f"/connection/websocket?format={name}"),
        ask(path=f"/connection/websocket?cf_protocol={name}"),
    ):
        assert isinstance(decision, Upgrade)
        assert decision.encoding.name == name


def test_an_unknown_subprotocol_is_told_which_there_are() -> None:
    decision = ask(("Sec-WebSocket-Protocol", "other"))
    assert isinstance(decision, Answer)
    assert "centrifuge-json" in decision.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 101),
        ("?", 101),
        ("?format=json", 101),
        ("?cf_protocol=json", 101),
        ("?format=avro", 400),
        ("?cf_protocol=avro", 400),
        ("?other=1", 101),
        ("?" + "&".join(f"a{number}=1" for number in range(100)), 400),
        ("?%ff=%fe", 101),
    ],
)
def test_the_query_may_name_the_encoding(query: str, expected: int) -> None:
    assert status(ask(path=PATH + query)) == expected


@pytest.mark.parametrize(
    ("query", "native"),
    [
        ("?cf_ws_frame_ping_pong=true", True),
        ("?a=b&cf_ws_frame_ping_pong=true", True),
        ("?cf_ws_frame_ping_pong=false", False),
        ("?cf_ws_frame_ping_pong=", False),
        ("", False),
    ],
)
def test_the_query_may_ask_for_native_pings(query: str, native: bool) -> None:
    decision = ask(path=PATH + query)
    assert isinstance(decision, Upgrade)
    assert decision.native_ping is native


@pytest.mark.parametrize(
    "path", ["/", "/connection", PATH + "/", PATH.upper(), "//connection/websocket", "/health", "*"]
)
def test_another_path_is_404_and_told_the_right_one(path: str) -> None:
    decision = ask(path=path)
    assert isinstance(decision, Answer)
    assert decision.status == 404
    assert PATH in decision.text


@pytest.mark.parametrize(
    ("path", "method", "ready", "expected"),
    [
        ("/health/live", "GET", True, 200),
        ("/health/live", "GET", False, 200),
        ("/health/ready", "GET", True, 200),
        ("/health/ready", "GET", False, 503),
        ("/health/ready?x=1", "HEAD", True, 200),
        ("/health/live", "POST", True, 405),
        ("/health/ready", "DELETE", True, 405),
    ],
)
def test_health_is_answered_from_the_public_port(path: str, method: str, ready: bool, expected: int) -> None:
    assert status(ask(path=path, method=method, ready=ready)) == expected


def test_a_health_check_is_no_refusal() -> None:
    decision = ask(path="/health/ready", ready=False)
    assert isinstance(decision, Answer)
    assert decision.reason == ""
