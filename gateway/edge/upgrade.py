"""The handshake of an ordinary client, without the cost of a general HTTP parser.

In a storm the handshake is half of what a client costs, and `websockets` spends most of it on taking headers apart and
putting a response together. A request with nothing unusual in it is read here by one regular expression; everything
else, and everything that is wrong, goes the long way (`gateway.edge.request`, then the library), which knows how to
refuse. So this module accepts a subset of what the long way accepts and never refuses: `tests/edge/test_upgrade.py`
holds it to that, and the storm of `make bench` is where it shows.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Final, NamedTuple

from websockets.utils import accept_key

from protocol import WEBSOCKET_PATH

_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9\-.]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_START: Final = f"GET {WEBSOCKET_PATH}".encode()
_REQUEST: Final = re.compile(
    rb"GET " + re.escape(WEBSOCKET_PATH.encode()) + rb"(?:\?([\x21-\x7e]{0,2048}))? HTTP/1\.1\r\n"
    # Field names are tokens (RFC 9110 §5.6.2), values printable.
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*\r\n){4,64})\r\n"
)
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_ONCE: Final = frozenset(
    (
        *("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "origin"),
        *("sec-websocket-protocol", "sec-websocket-extensions"),
    )
)
_BODY: Final = frozenset(("content-length", "transfer-encoding"))


class Ordinary(NamedTuple):
    """What an ordinary request says."""

    query: str
    host: str
    origins: tuple[str, ...]
    offered: tuple[str, ...]
    """Subprotocols."""
    key: str
    extensions: str
    """Those that are offered."""
    block: str
    """All header lines."""


def read_ordinary(data: bytes) -> Ordinary | None:
    """The request that `data` is, if it is complete, ordinary and correct; None = it goes the long way."""
    if not data.startswith(_START):
        return None
    match = _REQUEST.fullmatch(data)
    if match is None:
        return None
    query, block = match[1], match[2].decode("ascii")
    fields: dict[str, str] = {}
    for line in block.split("\r\n"):
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _ONCE:
            if name in fields:
                return None
            fields[name] = value.strip(" \t")
        elif name in _BODY:
            return None
    connection = fields.get("connection", "").lower()
    key = fields.get("sec-websocket-key", "")
    if (
        fields.get("upgrade", "").lower() != "websocket"
        or (connection != "upgrade" and "upgrade" not in [part.strip() for part in connection.split(",")])
        or fields.get("sec-websocket-version") != "13"
        or not _KEY.fullmatch(key)
        or len(b64decode(key)) != 16
        or not _PLAIN_HOST.fullmatch(fields.get("host", ""))
    ):
        return None
    subprotocols = fields.get("sec-websocket-protocol", "")
    return Ordinary(
        query=query.decode("ascii") if query else "",
        host=fields["host"],
        origins=(fields["origin"],) if "origin" in fields else (),
        offered=tuple(part.strip() for part in subprotocols.split(",")) if subprotocols else (),
        key=key,
        extensions=fields.get("sec-websocket-extensions", ""),
        block=block,
    )


def accepting_response(key: str, subprotocol: str | None, extensions: str = "") -> bytes:
    """The 101 response (RFC 6455 §4.2.2)."""
    agreed = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n{chosen}{agreed}\r\n"
    ).encode()
