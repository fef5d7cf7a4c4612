"""Who may look at the dashboard and act there: an operator with one of `control.api_keys`.

The key is entered once; after that the browser has a cookie with a random id that means nothing elsewhere. Sessions
are kept in memory, few of them, and end after 12 hours or with this process. Programs send `X-API-Key` instead.
Without any key, and only with `auth.insecure`, everyone may who comes from a trusted host, as for the API.

The rule that is easiest to break: a key is compared and forgotten. It never gets into a log line, a URL, an answer or
the browser's storage; log lines name the session.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from fastapi import Request, Response

from gateway.clock import Clock
from gateway.control.answers import RequestError
from gateway.control.api import KEY_HEADER
from gateway.control.guard import HostRules, check_own_page, check_same_origin
from protocol.codes import TOO_MANY_REQUESTS, UNAUTHORIZED

SESSION_S: Final = 12 * 3600.0
MAX_SESSIONS: Final = 100
"""Sessions at once; a further login ends the oldest."""
MAX_ADDRESSES: Final = 1000
"""Addresses whose wrong keys are remembered."""
FREE_ATTEMPTS: Final = 3
"""Wrong keys in a row that cost no time."""
FIRST_WAIT_S: Final = 1.0
"""After the next wrong key; it doubles with each further one."""
LONGEST_WAIT_S: Final = 30.0
OPEN: Final = "everybody"
"""Who acts on a gateway that has no keys and is insecure."""


class Visitor(NamedTuple):
    """Somebody who may do everything here."""

    name: str
    """For log lines: of a session, `key 1`, or OPEN."""
    session: str = ""
    """Its public id, which opens nothing; "" = none."""
    until_s: float = float("inf")
    """End of the session, on the monotonic clock."""


class _Failures(NamedTuple):
    wrong: int
    wait_until_s: float


class Logins:
    """Keys, sessions, and how often somebody was wrong."""

    def __init__(self, keys: Sequence[str], *, insecure: bool, hosts: HostRules, port: int, clock: Clock) -> None:
        """`port`: of this gateway, as cookies of one host are the same for all its ports."""
        self._keys = [key.encode() for key in keys]
        self._hosts = hosts
        self._clock = clock
        self._cookie = f"gateway_session_{port}"
        self._sessions: OrderedDict[str, Visitor] = OrderedDict()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self.open = insecure and not keys
        """Whether nobody has to log in."""
        self.closed = not insecure and not keys
        """Whether nobody can."""

    def visitor(self, request: Request) -> Visitor:
        """Who sends `request`. Raises RequestError: 401 unless it is somebody, 403 and 421 for foreign pages."""
        if self.open:
            check_same_origin(request, self._hosts)
            return Visitor(OPEN)
        given = request.headers.get(KEY_HEADER)
        if given is not None:
            return Visitor(f"key {self._number(given)}")
        check_own_page(request)
        session = self._sessions.get(request.cookies.get(self._cookie, ""))
        if session is None or session.until_s <= self._clock.monotonic():
            raise _no_entry("log in first: there is no session, or its time is over")
        return session

    def log_in(self, request: Request, key: str, response: Response) -> Visitor:
        """Begin a session; its cookie goes into `response`. Raises RequestError: 401 wrong key, 429 too many."""
        check_own_page(request)
        address = request.client.host if request.client else ""
        now = self._clock.monotonic()
        failures = self._failures.get(address, _Failures(0, 0.0))
        if failures.wait_until_s > now:
            wait_s = int(failures.wait_until_s - now) + 1
            message = f"too many wrong keys: try again in {wait_s} s"
            raise RequestError(429, TOO_MANY_REQUESTS, message, {"retry-after": str(wait_s)})
        try:
            number = self._number(key)
        except RequestError:
            self._failed(address, failures.wrong + 1, now)
            raise
        self._failures.pop(address, None)
        identity = secrets.token_urlsafe(32)
        public = secrets.token_hex(4)
        session = Visitor(f"session {public} of key {number}", public, now + SESSION_S)
        while self._sessions and (len(self._sessions) >= MAX_SESSIONS or self._oldest().until_s <= now):
            self._sessions.popitem(last=False)
        self._sessions[identity] = session
        response.set_cookie(
            self._cookie,
            identity,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=_is_https(request),
        )
        return session

    def log_out(self, request: Request, response: Response) -> Visitor | None:
        """End the session of `request`; whose it was, None = there is none. Raises RequestError (403)."""
        check_own_page(request)
        response.delete_cookie(self._cookie, httponly=True, samesite="strict", secure=_is_https(request))
        return self._sessions.pop(request.cookies.get(self._cookie, ""), None)

    def _number(self, given: str) -> int:
        """Which key it is, from 1. Every key is compared, in constant time. Raises RequestError (401)."""
        sent = given.encode(errors="replace")
        matches = [hmac.compare_digest(sent, key) for key in self._keys]
        if not self._keys:
            raise _no_entry("no API key is configured, so nobody can log in: set control.api_keys")
        if not any(matches):
            raise _no_entry("this is not one of control.api_keys")
        return matches.index(True) + 1

    def _failed(self, address: str, count: int, now: float) -> None:
        wait_s = 0.0 if count <= FREE_ATTEMPTS else FIRST_WAIT_S * 2.0 ** min(count - FREE_ATTEMPTS - 1, 30)
        self._failures[address] = _Failures(count, now + min(wait_s, LONGEST_WAIT_S))
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def _oldest(self) -> Visitor:
        return next(iter(self._sessions.values()))


def _is_https(request: Request) -> bool:
    """Whether the browser has come over TLS; what it says can make its own cookie stricter only."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    return "https" in (request.url.scheme, forwarded) or request.headers.get("origin", "").startswith("https://")


def _no_entry(message: str) -> RequestError:
    return RequestError(401, UNAUTHORIZED, message, {"www-authenticate": f'ApiKey header="{KEY_HEADER}"'})
