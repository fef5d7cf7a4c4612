"""What a request on the public port asks for, and what it gets. Pure: a request in, a decision out.

`/connection/websocket` becomes a WebSocket (RFC 6455 §4.2); `/health/live` and `/health/ready` are answered; everything
else is refused with a status and a sentence.

A page of another site may open a WebSocket to us, and the browser tells us its origin and nothing else (cross-site
WebSocket hijacking). By default only pages from our own host name may: the port is not compared, because the page is
often served from another one.
"""

from __future__ import annotations

import http
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.headers import parse_subprotocol
from websockets.http11 import Request

from gateway.edge.headers import NONE
from protocol import WEBSOCKET_PATH
from protocol.encodings import BY_SUBPROTOCOL, ENCODINGS, Encoding

LIVE_PATH: Final = "/health/live"
READY_PATH: Final = "/health/ready"
HEALTH_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""OPTIONS is what HAProxy's `option httpchk` sends unless it is told otherwise."""
_FORMATS: Final = {encoding.name: encoding for encoding in ENCODINGS}
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:]+)(?::\d+)?", re.IGNORECASE)


class Upgrade(NamedTuple):
    """The request may become a WebSocket."""

    encoding: Encoding
    native_ping: bool
    headers: Mapping[str, str] = NONE
    """Those that are kept."""


class Answer(NamedTuple):
    """The request gets a plain response."""

    status: http.HTTPStatus
    text: str
    reason: str = ""
    """For refusals: `origin`, `bad_request`, `address` or `pace`; "" for answers that were asked for."""
    fields: tuple[tuple[str, str], ...] = ()
    """Further header fields of the response."""


FOREIGN_ORIGIN: Final = Answer(
    http.HTTPStatus.FORBIDDEN,
    "Pages of this origin may not connect: it is not in server.allowed_origins of the gateway.\n",
    "origin",
)

WEBSOCKET_VERSION: Final = "13"
OTHER_VERSION: Final = Answer(
    http.HTTPStatus.UPGRADE_REQUIRED,
    f"This gateway speaks version {WEBSOCKET_VERSION} of the WebSocket protocol only.\n",
    "bad_request",
    (("Upgrade", "websocket"), ("Sec-WebSocket-Version", WEBSOCKET_VERSION)),  # RFC 6455 §4.2.2
)


def decide(request: Request, allowed_origins: Sequence[str], ready: Callable[[], tuple[bool, str]]) -> Upgrade | Answer:
    """Look at path, origin and subprotocol. The WebSocket headers themselves are checked by `websockets` afterwards.

    Changes the request in one way: an empty `Sec-WebSocket-Protocol` header (centrifuge-python sends one) is removed,
    because the library refuses it.
    """
    path, _, query = request.path.partition("?")
    if path == WEBSOCKET_PATH:
        return _decide_upgrade(request.headers, query, allowed_origins)
    if path in (LIVE_PATH, READY_PATH):
        if request.method not in HEALTH_METHODS:
            return _wrong_method("Use GET.\n", ", ".join(HEALTH_METHODS))
        fine, text = ready() if path == READY_PATH else (True, "live")
        return Answer(http.HTTPStatus.OK if fine else http.HTTPStatus.SERVICE_UNAVAILABLE, f"{text}\n")
    if request.method not in HEALTH_METHODS:
        return _wrong_method("Use GET. The HTTP API is on the control port.\n", "GET, HEAD")
    return Answer(http.HTTPStatus.NOT_FOUND, f"Not found. WebSockets are at {WEBSOCKET_PATH}.\n", "bad_request")


def origin_allowed(origins: Sequence[str], host: str | None, allowed_origins: Sequence[str]) -> bool:
    """Whether the page may connect: values of `Origin`, value of `Host`. No Origin, no browser, nothing to protect."""
    if not origins:
        return True
    if len(origins) > 1:
        return False
    if allowed_origins:
        return "*" in allowed_origins or origins[0] in allowed_origins
    return _same_host(origins[0], host)


def choose_encoding(offered: Sequence[str], query: str) -> Upgrade | Answer:
    """The encoding for a client that offers these subprotocols, with this query string behind the path."""
    try:
        options = parse_qs(query, max_num_fields=20) if query else {}
    except ValueError as error:
        return Answer(http.HTTPStatus.BAD_REQUEST, f"{error}\n", "bad_request")
    native_ping = options.get("cf_ws_frame_ping_pong") == ["true"]
    for name in offered:
        if name in BY_SUBPROTOCOL:
            return Upgrade(BY_SUBPROTOCOL[name], native_ping)
    asked = (options.get("format") or options.get("cf_protocol") or ["json"])[0]
    if offered or asked not in _FORMATS:
        # Browsers fail a handshake that ignores the subprotocols they offered: say what there is instead.
        text = f"Unknown subprotocol. This gateway speaks {', '.join(BY_SUBPROTOCOL)}.\n"
        return Answer(http.HTTPStatus.BAD_REQUEST, text, "bad_request")
    return Upgrade(_FORMATS[asked], native_ping)


def _wrong_method(text: str, allowed: str) -> Answer:
    return Answer(http.HTTPStatus.METHOD_NOT_ALLOWED, text, "bad_request", (("Allow", allowed),))


def _decide_upgrade(headers: Headers, query: str, allowed_origins: Sequence[str]) -> Upgrade | Answer:
    hosts = headers.get_all("Host")
    if not origin_allowed(headers.get_all("Origin"), hosts[0] if len(hosts) == 1 else None, allowed_origins):
        return FOREIGN_ORIGIN
    subprotocols = headers.get_all("Sec-WebSocket-Protocol")
    if subprotocols and not "".join(subprotocols).strip():
        del headers["Sec-WebSocket-Protocol"]
        subprotocols = []
    versions = headers.get_all("Sec-WebSocket-Version")
    if len(versions) == 1 and versions[0] != WEBSOCKET_VERSION:
        return OTHER_VERSION
    try:
        offered = [name for value in subprotocols for name in parse_subprotocol(value)]
    except InvalidHeader as error:
        return Answer(http.HTTPStatus.BAD_REQUEST, f"{error}\n", "bad_request")
    return choose_encoding(offered, query)


def _same_host(origin: str, host: str | None) -> bool:
    try:
        page = urlsplit(origin).hostname
    except ValueError:
        return False
    match = _HOST.fullmatch(host.strip()) if host else None
    return page is not None and match is not None and match[1].strip("[]").lower() == page.lower()
