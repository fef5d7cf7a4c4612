"""Headers of the PROXY protocol, as HAProxy's specification has them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.proxy_protocol import MAX_BYTES, SIGNATURE, Header, ProxyProtocolError, read_header

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"


def v2(command: int, kind: int, body: bytes, *, size: int | None = None) -> bytes:
    return SIGNATURE + bytes((command, kind)) + (len(body) if size is None else size).to_bytes(2) + body


def inet(source: str, port: int) -> bytes:
    ours = ipaddress.ip_address("198.51.100.1" if "." in source else "2001:db8::2")
    return ipaddress.ip_address(source).packed + ours.packed + port.to_bytes(2) + (443).to_bytes(2)


TLV = b"\x04\x00\x03abc"
UNIX = b"/run/a.sock".ljust(108, b"\0") * 2


@pytest.mark.parametrize(
    ("data", "source", "port"),
    [
        (V1, "192.0.2.7", 56324),
        (b"PROXY TCP6 2001:DB8::7 2001:db8::1 1 65535\r\n", "2001:db8::7", 1),
        (b"PROXY UNKNOWN\r\n", "", 0),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", 0),
        (v2(0x21, 0x11, inet("192.0.2.7", 5)), "192.0.2.7", 5),
        (v2(0x21, 0x11, inet("192.0.2.7", 5) + TLV), "192.0.2.7", 5),
        (v2(0x21, 0x21, inet("2001:db8::7", 6) + TLV * 100), "2001:db8::7", 6),
        (v2(0x21, 0x12, inet("192.0.2.7", 5)), "", 0),
        (v2(0x21, 0x31, UNIX), "", 0),
        (v2(0x21, 0x00, TLV), "", 0),
        (v2(0x20, 0x00, b""), "", 0),
        (v2(0x20, 0x11, inet("192.0.2.7", 5)), "", 0),
        (v2(0x20, 0xFF, b"whatever"), "", 0),
    ],
)
def test_what_a_header_says(data: bytes, source: str, port: int) -> None:
    assert read_header(data) == read_header(data + b"GET / HTTP/1.1\r\n") == Header(len(data), source, port)
    for end in range(len(data)):
        assert read_header(data[:end]) is None, "more bytes are needed"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY\r\n",
        b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        v2(0x11, 0x11, inet("192.0.2.7", 5)),
        v2(0x22, 0x11, inet("192.0.2.7", 5)),
        v2(0x21, 0x41, UNIX),
        v2(0x21, 0x13, inet("192.0.2.7", 5)),
        v2(0x21, 0x11, b"short"),
        v2(0x21, 0x21, inet("192.0.2.7", 5)),
        v2(0x21, 0x11, b"", size=MAX_BYTES - 15),
        v2(0x20, 0x00, b"", size=0xFFFF),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        read_header(data)


@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_any_bytes_are_a_header_or_refused_or_need_more(data: bytes, start: bytes) -> None:
    try:
        header = read_header(start + data)
    except ProxyProtocolError:
        return
    assert header is None or 0 < header.size <= len(start + data)


def test_no_more_bytes_are_asked_for_than_the_longest_header_has() -> None:
    for start in (b"PROXY TCP4 ", v2(0x21, 0x11, b"", size=MAX_BYTES - 16)):
        whole = start + b"1" * (MAX_BYTES - len(start))
        try:
            assert read_header(whole) is not None
        except ProxyProtocolError:
            continue
