"""The same events as calls over HTTP: one POST each, on pooled connections.

A second attempt is made where it cannot do anything twice: when no connection was made, for every event; when the
answer broke off or came with status 502 to 504, for events that only ask (connect, refresh, subscribe, sub_refresh).
`publish` and `rpc` are sent once at most. Both attempts share the one time-out.

The rule that is easiest to break: an answer is read piece by piece and never unpacked, so its size is bounded before it
is in memory.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, TypeVar

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
IDLE_S: Final = 30.0
"""Time that an unused connection is kept."""


class Proxy:
    """The HTTP client of one worker. `start` and `aclose` it."""

    def __init__(self, settings: Settings, counters: memoryview[int]) -> None:
        self._settings = settings
        self._counters = counters
        self._client: httpx.AsyncClient | None = None
        self._static = {name.lower(): value for name, value in settings.static_headers.items()}

    def start(self) -> None:
        """Make the client; connections are opened when they are needed."""
        import certifi  # noqa: PLC0415 - see below
        import httpx  # noqa: PLC0415 - 40 ms and 10 MiB that only gateways with such a backend need

        settings = self._settings
        trusted = ssl.create_default_context()
        trusted.load_verify_locations(certifi.where())
        # trust_env off: neither a proxy server nor a .netrc of the machine may come between.
        self._client = httpx.AsyncClient(
            verify=trusted,
            trust_env=False,
            follow_redirects=False,
            timeout=settings.timeout_s,
            limits=httpx.Limits(
                max_connections=settings.calls_at_once,
                max_keepalive_connections=settings.calls_at_once,
                keepalive_expiry=IDLE_S,
            ),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, url: str, kind: type[R], context: Context) -> R:
        """One event. Raises Refused, Disconnected, CallFailed."""
        import httpx  # noqa: PLC0415 - imported already

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
                status, payload = await self._exchange(url, body, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = CallFailed(f"no connection: {error}", down=True)
            except httpx.HTTPError as error:
                again = again and kind in ASKS_ONLY
                failure = CallFailed(f"{type(error).__name__}: {error}", down=True)
            else:
                if status == httpx.codes.OK:
                    return _read(kind, payload, context)
                again = again and kind in ASKS_ONLY and status in PASSING
                failure = CallFailed(f"status {status}", down=status >= httpx.codes.INTERNAL_SERVER_ERROR)
            if not again:
                raise failure
            self._counters[names.BACKEND_RETRIES] += 1
        raise AssertionError("unreachable")

    async def _exchange(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        client: Any = self._client
        limit = self._settings.answer_bytes
        answer = bytearray()
        async with client.stream("POST", url, content=body, headers=headers) as response:
            if "content-encoding" in response.headers:
                raise CallFailed("the answer is compressed, which was not asked for", down=False)
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > limit:
                    raise CallFailed(f"the answer is larger than {limit} bytes", down=False)
            return response.status_code, bytes(answer)


def _read(kind: type[R], payload: bytes, context: Context) -> R:
    try:
        return decode_reply(kind, payload, context)
    except (ValueError, RecursionError) as error:
        raise CallFailed(f"the answer is not what was agreed: {error!s:.200}", down=False) from error
