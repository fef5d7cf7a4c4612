"""The same events as calls over HTTP: one POST each, on pooled connections.

A second attempt is made where it cannot do anything twice: when no connection was made, for every event; when the
answer broke off or came with status 502 to 504, for events that only ask (connect, refresh, subscribe, sub_refresh).
`publish` and `rpc` are sent once at most. Both attempts share the one time-out.

Each connection is a transport of httpx of its own, and the pool is a list of those that are free: one `AsyncClient` for
all looks at each of its connections for each request, which made a call cost 5 ms of the worker's time with 50 under
way, against 0.6 ms this way.

The rule that is easiest to break: an answer is read piece by piece and never unpacked, so its size is bounded before it
is in memory.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from gateway.backend.calls import CallFailed
from gateway.backend.hooks import (
    ConnectResult,
    Context,
    PublishResult,
    RefreshResult,
    RpcResult,
    SubRefreshResult,
    SubscribeResult,
)
from gateway.backend.shapes import decode_reply, encode_request
from gateway.config import Backend as Settings
from gateway.metrics import names

if TYPE_CHECKING:
    import httpx

R = TypeVar("R", ConnectResult, RefreshResult, SubscribeResult, SubRefreshResult, PublishResult, RpcResult)

ASKS_ONLY: Final = (ConnectResult, RefreshResult, SubscribeResult, SubRefreshResult)
"""Results of events that change nothing at the backend."""
PASSING: Final = frozenset({502, 503, 504})
IDLE: Final = 64
"""Unused connections to one host that are kept."""
IDLE_S: Final = 30.0
"""Time after which an unused connection is not used again."""


class Proxy:
    """The HTTP client of one worker. `start` and `aclose` it."""

    def __init__(self, settings: Settings, counters: memoryview[int]) -> None:
        self._settings = settings
        self._counters = counters
        self._trusted: ssl.SSLContext | None = None
        by_host: dict[str, list[httpx.AsyncHTTPTransport]] = {}
        self._free = {url: by_host.setdefault(_origin(url), []) for url in settings.urls.values()}
        self._static = {name.lower(): value for name, value in settings.static_headers.items()}

    def start(self) -> None:
        """Read whom to trust; connections are opened when they are needed."""
        import certifi  # noqa: PLC0415 - only gateways with such a backend need it

        self._trusted = ssl.create_default_context()
        self._trusted.load_verify_locations(certifi.where())

    async def aclose(self) -> None:
        """Close all connections that are not in use."""
        for lanes in self._free.values():
            while lanes:
                await lanes.pop().aclose()

    async def ask(self, url: str, kind: type[R], context: Context) -> R:
        """One event; `url` is one of the settings. Raises Refused, Disconnected, CallFailed."""
        import httpx  # noqa: PLC0415 - 40 ms and 10 MiB that only gateways with such a backend need

        body = encode_request(context, with_meta=self._settings.send_meta)
        headers = {
            **context.headers,
            **self._static,
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
        }
        for attempt in (1, 2):
            again = attempt == 1
            try:
                status, payload = await self._exchange(url, httpx.Request("POST", url, content=body, headers=headers))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = CallFailed(f"no connection: {error}", down=True)
            except httpx.HTTPError as error:
                again = again and kind in ASKS_ONLY
                failure = CallFailed(f"{type(error).__name__}: {error}", down=True)
            else:
                if status == httpx.codes.OK:
                    return _read(kind, payload)
                again = again and kind in ASKS_ONLY and status in PASSING
                failure = CallFailed(f"status {status}", down=status >= httpx.codes.INTERNAL_SERVER_ERROR)
            if not again:
                raise failure
            self._counters[names.BACKEND_RETRIES] += 1
        raise AssertionError("unreachable")

    async def _exchange(self, url: str, request: httpx.Request) -> tuple[int, bytes]:
        """One attempt, on a connection of its own meanwhile."""
        free = self._free[url]
        lane = free.pop() if free else self._open_lane()
        try:
            answered = await self._send(lane, request)
        except BaseException:
            # Broken off somewhere: nothing more can be said on it.
            await lane.aclose()
            raise
        if len(free) < IDLE:
            free.append(lane)
        else:
            await lane.aclose()
        return answered

    async def _send(self, lane: httpx.AsyncHTTPTransport, request: httpx.Request) -> tuple[int, bytes]:
        limit = self._settings.answer_bytes
        answer = bytearray()
        response = await lane.handle_async_request(request)
        try:
            if "content-encoding" in response.headers:
                raise CallFailed("the answer is compressed, which was not asked for", down=False)
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > limit:
                    raise CallFailed(f"the answer is larger than {limit} bytes", down=False)
        finally:
            await response.aclose()
        return response.status_code, bytes(answer)

    def _open_lane(self) -> httpx.AsyncHTTPTransport:
        import httpx  # noqa: PLC0415 - imported already

        if self._trusted is None:
            raise RuntimeError("the proxy was not started")
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S)
        # trust_env off: neither a proxy server nor a .netrc of the machine may come between.
        return httpx.AsyncHTTPTransport(verify=self._trusted, trust_env=False, limits=limits)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read(kind: type[R], payload: bytes) -> R:
    try:
        return decode_reply(kind, payload)
    except (ValueError, RecursionError) as error:
        raise CallFailed(f"the answer is not what was agreed: {error!s:.200}", down=False) from error
