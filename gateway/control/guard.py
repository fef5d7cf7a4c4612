"""What keeps foreign web pages out of the control port, and headers that make browsers careful.

A page from anywhere can make its visitor's browser send requests to ports on loopback and in private networks. It
cannot read the answers (no CORS here), unless it turns its own host name into our address: DNS rebinding. Then browser
and page agree that we are the page's own server. What gives it away is the name in the Host header, so:

* An IP address is always trusted: rebinding needs a name. So are `localhost`, this machine's own name, the configured
  host, and the hosts of `server.allowed_origins`, whose pages may connect anyway.
* On loopback, any other name is refused for every path: nobody reaches us there under another name.
* Elsewhere a port is exposed on purpose and may have any name in its network's DNS. There, only what acts without a
  key (demo tokens, the insecure API) insists on a trusted name; the API has its keys, and metrics are not secret
  from the network they were exposed to.

What acts without a key also wants the request to come from a page of this very server: `check_same_origin`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.config import Config
from gateway.control import answers
from gateway.control.answers import RequestError
from protocol.codes import PERMISSION_DENIED

_HOST: Final = re.compile(r"^(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+)(?P<port>:[0-9]{1,5})?$", re.ASCII)

SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""On every answer that does not set them itself."""


class HostRules:
    """Which names in the Host header are ours."""

    def __init__(self, names: Iterable[str], *, any_name: bool) -> None:
        """`names`: trusted beside addresses and localhost. `any_name`: accept others, except where a trusted name is
        insisted on."""
        self._names = frozenset(name.lower().rstrip(".") for name in names if name)
        self.any_name = any_name

    @classmethod
    def of(cls, config: Config) -> HostRules:
        """The rules for a configuration on this machine."""
        machine = socket.gethostname()
        origins = (urlsplit(origin).hostname or "" for origin in config.server.allowed_origins)
        names = (config.control.host, config.server.host, machine, f"{machine}.local", *origins)
        return cls(names, any_name=not _is_loopback(config.control.host))

    def trusts(self, host: str) -> bool:
        """Whether `host`, a Host header, can only come from someone who means this server."""
        name = host_name(host).lower().rstrip(".")
        return (
            name == "localhost"
            or name.endswith(".localhost")  # RFC 6761 §6.3: never resolved by DNS
            or _address(name) is not None
            or name in self._names
        )


class Guard:
    """ASGI middleware: refuses hosts that are not ours, adds security headers."""

    def __init__(self, app: ASGIApp, hosts: HostRules) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if not host_name(host):
            problem = RequestError(400, PERMISSION_DENIED, "the Host header is missing or is not a host")
            await answers.refusal(problem)(scope, receive, send_with_headers)
        elif not (self._hosts.any_name or self._hosts.trusts(host)):
            await answers.refusal(_not_ours(host))(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def check_same_origin(request: Request, hosts: HostRules) -> None:
    """Raises RequestError unless `request` comes from a page of this server, or from no page at all.

    Programs send neither header; browsers send `Origin` with every POST, and `Sec-Fetch-Site` where the page itself is
    trustworthy (https or loopback).
    """
    host = request.headers.get("host", "")
    if not hosts.trusts(host):
        raise _not_ours(host)
    check_own_page(request)


def check_own_page(request: Request) -> None:
    """The same without insisting on a trusted name: enough where a key or a cookie of this host is needed, too."""
    host = request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
        raise RequestError(403, PERMISSION_DENIED, "only pages of this server may ask for this")


def host_name(host: str) -> str:
    """The name in a Host header, without its port; "" when it is no such header."""
    match = _HOST.match(host)
    return match["name"] if match else ""


def _not_ours(host: str) -> RequestError:
    return RequestError(
        421,  # RFC 9110 §15.5.20: not able or willing to answer for this authority
        PERMISSION_DENIED,
        f'this server does not answer to the name "{host_name(host)}": use its address, or list the page\'s origin '
        "in server.allowed_origins",
    )


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
