"""The PROXY protocol (HAProxy's specification, versions 1 and 2): what a load balancer says before the client's bytes.

A load balancer that hands on bytes (TCP, not HTTP) puts one header in front of each connection, with the address from
which the client connected to it. Pure: bytes in, a header out. Bounded: no more than MAX_BYTES are ever looked at.

The rule that is easiest to break: whoever can reach the port can write such a header. It may be believed only if it was
demanded by the configuration, and only from `server.trusted_proxies` if there are any.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""First bytes of version 2; no HTTP request, TLS hello or version 1 header begins so."""
V1_BYTES: Final = 107
"""The longest header of version 1, its CRLF included."""
MAX_BYTES: Final = 4096
"""The longest header that is taken. Version 2 allows 64 KiB of extensions (TLVs); in practice it is some hundred."""

_V1: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9a-fA-F:.]{2,45}) ([0-9a-fA-F:.]{2,45}) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})"
)
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?")
_LOCAL, _PROXY = 0x20, 0x21
_STREAM: Final = 1
_ADDRESS_BYTES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
"""Address family → bytes of its two addresses: unspecified, IPv4, IPv6, Unix sockets."""


class ProxyProtocolError(ValueError):
    """The bytes are no header, or one that is not allowed."""


class Header(NamedTuple):
    """What the load balancer says."""

    size: int
    """Bytes that the header takes; what follows is the client's."""
    source: str
    """Address of the client; "" = it says none: a health check of its own, a Unix socket, or it does not know."""
    port: int


def read_header(data: bytes) -> Header | None:
    """The header that `data` begins with; None = more bytes are needed. Raises ProxyProtocolError."""
    if data.startswith(SIGNATURE):
        return _read_v2(data)
    if SIGNATURE.startswith(data[: len(SIGNATURE)]):
        return None
    if not (data.startswith(b"PROXY ") or b"PROXY ".startswith(data)):
        raise ProxyProtocolError("no PROXY protocol header")
    line, end, _ = data[:V1_BYTES].partition(b"\r\n")
    if not end:
        if len(data) >= V1_BYTES:
            raise ProxyProtocolError(f"a header of version 1 with more than {V1_BYTES} bytes")
        return None
    return _read_v1(line)


def _read_v1(line: bytes) -> Header:
    size = len(line) + 2
    if _V1_UNKNOWN.fullmatch(line):
        return Header(size, "", 0)
    match = _V1.fullmatch(line)
    if match is None:
        raise ProxyProtocolError("a malformed header of version 1")
    family: type[ipaddress.IPv4Address | ipaddress.IPv6Address]
    family = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = family(match[2].decode()), family(match[3].decode())
    except ValueError as error:
        raise ProxyProtocolError(f"a malformed header of version 1: {error}") from error
    port = int(match[4])
    if max(port, int(match[5])) > 65535:
        raise ProxyProtocolError("a malformed header of version 1: no such port")
    return Header(size, str(source), port)


def _read_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family, protocol = data[12], data[13] >> 4, data[13] & 0x0F
    size = 16 + int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError("a header of an unknown version or command")
    if size > MAX_BYTES:
        raise ProxyProtocolError(f"a header with more than {MAX_BYTES} bytes")
    if command == _PROXY and (family not in _ADDRESS_BYTES or protocol > 2):
        raise ProxyProtocolError("a header with an unknown kind of address")
    if command == _PROXY and size - 16 < _ADDRESS_BYTES[family]:
        raise ProxyProtocolError("a header that is too short for its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL or protocol != _STREAM or family not in (1, 2):
        return Header(size, "", 0)
    if family == 1:
        return Header(size, str(ipaddress.IPv4Address(data[16:20])), int.from_bytes(data[24:26]))
    return Header(size, str(ipaddress.IPv6Address(data[16:32])), int.from_bytes(data[48:50]))
