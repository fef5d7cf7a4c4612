"""Reads the head of an HTTP request from the public port (RFC 9112). Pure: bytes in, a `Request` or a refusal out.

`websockets` has a parser for requests, too. It limits a line to 8 KiB, which a large cookie exceeds, and the whole to
1 MiB, and it has no notion of absolute targets. Here the limit is the size of the whole head, `limits.request_bytes`,
and a head is parsed once, when it is complete.

Invariant: what `take_head` finds incomplete is still a possible beginning of a request. Anything else raises at once,
so that nobody waits for a time-out to learn that they speak the wrong protocol.
"""

from __future__ import annotations

import http
import re
from typing import Final

from websockets.datastructures import Headers
from websockets.http11 import Request

END: Final = b"\r\n\r\n"
TARGET_BYTES: Final = 8192
"""The longest request line; a longer one is answered with 414."""
MOST_FIELDS: Final = 128
"""Header fields of one request; with more, 431."""

_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e]+) (HTTP/1\.[01])")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: .*)?", re.DOTALL)
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_ABSOLUTE: Final = re.compile(r"(?:https?|wss?)://([^/?#]*)(.*)", re.IGNORECASE)
HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]{0,5})?")
"""A host with or without a port (RFC 9110 §7.2)."""


class BadRequest(ValueError):
    """The bytes are no request that is served here: the status and the sentence to answer with."""

    def __init__(self, status: http.HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def take_head(data: bytes, searched: int, most_bytes: int) -> int:
    """The size of the head that `data` begins with; 0 = it is not complete. Raises BadRequest.

    `searched`: bytes at its beginning that an earlier call has seen.
    """
    end = data.find(END, max(0, searched - len(END) + 1)) + len(END)
    if end >= len(END):
        if end > most_bytes:
            raise _too_large(most_bytes)
        return end
    line, found, _ = data[: TARGET_BYTES + 2].partition(b"\n")
    if (found and _LINE.fullmatch(line.removesuffix(b"\r")) is None) or not _METHOD.fullmatch(line):
        raise _malformed(line)
    if not found and len(data) > TARGET_BYTES:
        raise BadRequest(http.HTTPStatus.REQUEST_URI_TOO_LONG, f"The request line has more than {TARGET_BYTES} bytes.")
    if found and not line.endswith(b"\r"):
        raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: a line ends without CR.")
    if len(data) >= most_bytes:
        raise _too_large(most_bytes)
    return 0


def parse_head(head: bytes) -> Request:
    """The request in a complete head. Its `path` is the path and query, also where the target is absolute; then the
    `Host` is that of the target (RFC 9112 §3.2.2). Raises BadRequest."""
    line, *lines = head[: -len(END)].split(b"\r\n")
    if len(line) > TARGET_BYTES:
        raise BadRequest(http.HTTPStatus.REQUEST_URI_TOO_LONG, f"The request line has more than {TARGET_BYTES} bytes.")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _malformed(line)
    method, target, protocol = (part.decode("ascii") for part in match.groups())
    if len(lines) > MOST_FIELDS:
        raise BadRequest(
            http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request has more than {MOST_FIELDS} header fields."
        )
    headers = Headers()
    for each in lines:
        field = _FIELD.fullmatch(each)
        if field is None:
            raise BadRequest(http.HTTPStatus.BAD_REQUEST, f"Bad request: {each[:80]!r} is no header field.")
        headers[field[1].decode("ascii")] = field[2].strip(b" \t").decode("latin-1")
    _check_body(headers, method)
    _check_host(headers, protocol)
    if (absolute := _ABSOLUTE.fullmatch(target)) is not None:
        authority, rest = absolute.groups()
        if not authority or HOST.fullmatch(authority) is None:
            raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: the target names no host.")
        if "Host" in headers:
            del headers["Host"]
        headers["Host"] = authority
        target = rest if rest.startswith("/") else f"/{rest}"
    return Request(target, headers, method, protocol)


def _check_host(headers: Headers, protocol: str) -> None:
    """RFC 9112 §3.2: exactly one; HTTP/1.0 knows none, and checks of load balancers still come in it."""
    hosts = headers.get_all("Host")
    if len(hosts) > 1:
        raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: several Host fields.")
    if not hosts and protocol != "HTTP/1.0":
        raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: no Host field.")
    if hosts and HOST.fullmatch(hosts[0]) is None:
        raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: the Host field names no host.")


def _check_body(headers: Headers, method: str) -> None:
    if "Transfer-Encoding" not in headers and set(headers.get_all("Content-Length")) <= {"0"}:
        return
    if method in ("GET", "HEAD"):
        raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: a body is not taken.")
    raise BadRequest(http.HTTPStatus.METHOD_NOT_ALLOWED, "Use GET. The HTTP API is on the control port.")


def _malformed(line: bytes) -> BadRequest:
    return BadRequest(http.HTTPStatus.BAD_REQUEST, f"Bad request: {line[:80]!r} is no request line of HTTP/1.1.")


def _too_large(most_bytes: int) -> BadRequest:
    return BadRequest(
        http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"The request has more than {most_bytes} bytes (limits.request_bytes).",
    )
