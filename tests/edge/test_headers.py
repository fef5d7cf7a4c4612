"""Headers of the handshake: only those that are listed are kept, by whichever way the request was read."""

from __future__ import annotations

import pytest

from gateway.edge.headers import NONE, fields_of, keep
from gateway.edge.upgrade import read_ordinary


def test_only_listed_headers_are_kept_whatever_their_case() -> None:
    fields = [("Cookie", "a=1"), ("AUTHORIZATION", "Bearer x"), ("X-Other", "2")]
    assert keep(fields, ("cookie", "authorization")) == {"cookie": "a=1", "authorization": "Bearer x"}


def test_several_of_one_name_are_joined_as_their_standards_say() -> None:
    fields = [("cookie", "a=1"), ("x", "1"), ("Cookie", "b=2"), ("X", "2")]
    assert keep(fields, ("cookie", "x")) == {"cookie": "a=1; b=2", "x": "1, 2"}


@pytest.mark.parametrize("value", ["\x00", "a\r\nX-Injected: 1", "caf\u00e9", "\udcff"])
def test_what_could_not_be_passed_on_is_left_out(value: str) -> None:
    assert keep([("cookie", value)], ("cookie",)) is NONE


def test_nothing_kept_costs_nothing() -> None:
    assert keep([("cookie", "a=1")], ()) is NONE


def test_an_ordinary_request_gives_its_headers() -> None:
    request = (
        b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nCookie:  a=b:c \r\n\r\n"
    )
    ordinary = read_ordinary(request)
    assert ordinary is not None
    assert keep(fields_of(ordinary.block), ("cookie",)) == {"cookie": "a=b:c"}
