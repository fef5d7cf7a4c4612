"""Puts the hooks of one worker together: Python handlers and HTTP endpoints, each event answered by one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.backend.calls import Calls
from gateway.backend.goodbyes import Goodbyes
from gateway.backend.handlers import Handlers, load_handlers
from gateway.backend.hooks import (
    NOBODY,
    Backend,
    ConnectResult,
    Context,
    DisconnectContext,
    Event,
    PublishResult,
    RefreshResult,
    RpcResult,
    SubRefreshResult,
    SubscribeResult,
)
from gateway.backend.proxy import Proxy
from gateway.backend.shapes import settle
from gateway.breaker import Breaker
from gateway.clock import Clock
from gateway.config import Backend as Settings
from gateway.errors import GatewayError, StartupError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

R = TypeVar("R", ConnectResult, RefreshResult, SubscribeResult, SubRefreshResult, PublishResult, RpcResult)

FLUSH_S: Final = 3.0
"""Time that `on_disconnect` has for the last clients of a worker."""


class Hooks:
    """All hooks of a worker. `start` it before the first client, `run` it beside them, `aclose` it after the last."""

    def __init__(self, settings: Settings, counters: memoryview[int], log: FilteringBoundLogger, clock: Clock) -> None:
        """Imports the handlers. Raises StartupError."""
        self._settings = settings
        self._clock = clock
        self._log = log
        self._calls = Calls(counters, log, clock, at_once=settings.calls_at_once, timeout_s=settings.timeout_s)
        self._handlers = load_handlers(settings.handlers) if settings.handlers else Handlers(None, "")
        self._proxy = Proxy(settings, counters) if settings.urls else None
        self._goodbyes = Goodbyes(self._say_goodbye, log) if "disconnect" in self._handlers.events else None
        self.backend = self._backend()
        """What sessions ask."""

    async def start(self) -> None:
        """Raises StartupError when the handlers' own `start` fails."""
        if self._proxy is not None:
            self._proxy.start()
        await self._handlers.start()

    async def run(self) -> None:
        """Background work, until cancelled; ends at once when there is none."""
        if self._goodbyes is not None:
            await self._goodbyes.run()

    async def flushed(self) -> None:
        """Wait for the last `on_disconnect`, for a few seconds."""
        if self._goodbyes is not None and not await self._goodbyes.flushed(FLUSH_S):
            self._log.warning("on_disconnect was not called for the last clients", waited_s=FLUSH_S)

    async def aclose(self) -> None:
        """Close what `start` opened. A failure of the handlers' own `aclose` is logged."""
        try:
            await self._handlers.aclose()
        except GatewayError as error:
            self._log.error("backend handlers not closed", error=str(error))
        if self._proxy is not None:
            await self._proxy.aclose()

    def _backend(self) -> Backend:
        settings = self._settings
        if self._proxy is None and not self._handlers.events:
            if settings.handlers:
                raise StartupError(f"[backend] handlers: {settings.handlers} has no on_… method")
            return NOBODY
        return Backend(
            on_connect=self._hook("connect", ConnectResult),
            on_refresh=self._hook("refresh", RefreshResult),
            on_subscribe=self._hook("subscribe", SubscribeResult),
            on_sub_refresh=self._hook("sub_refresh", SubRefreshResult),
            on_publish=self._hook("publish", PublishResult),
            on_rpc=self._hook("rpc", RpcResult),
            on_disconnect=self._goodbyes.put if self._goodbyes is not None else None,
            wants_meta=settings.send_meta or bool(self._handlers.events),
        )

    def _hook(self, event: Event, kind: type[R]) -> Callable[[Any], Awaitable[R]] | None:
        url = self._settings.urls.get(event, "")
        handler = self._handlers.events.get(event)
        if url and handler is not None:
            raise StartupError(f"[backend] {event}_url: {self._handlers.name} has on_{event} already; one may answer")
        if handler is not None:

            async def handled(context: Context) -> R:
                return settle(kind, await handler(context))

            return partial(self._calls.call, event, answer=handled)
        if url and self._proxy is not None:
            proxy = self._proxy
            breaker = Breaker(
                self._clock.monotonic,
                failures=self._settings.breaker_failures,
                open_s=self._settings.breaker_open_s,
                changed=lambda is_open: self._calls.circuit_changed(event, is_open=is_open),
            )

            async def posted(context: Context) -> R:
                return await proxy.ask(url, kind, context)

            return partial(self._calls.call, event, answer=posted, breaker=breaker)
        return None

    async def _say_goodbye(self, context: DisconnectContext) -> None:
        await self._calls.call("disconnect", context, self._handlers.events["disconnect"])
