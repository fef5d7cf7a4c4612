"""`on_disconnect`: telling a handler that clients are gone. It happens behind the client's back, in any order.

When a worker ends, thousands of clients go at once: they wait here, a bounded number is told at a time, and `flushed`
gives the last ones a moment. A worker that dies tells nobody; events on a Redis Stream do (`[backend] events_stream`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from gateway.backend.hooks import DisconnectContext, Disconnected, Refused
from gateway.errors import BackendUnavailable

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

WAITING: Final = 20_000
"""Clients whose end waits to be told; above it they are not told of."""
AT_ONCE: Final = 16
"""Calls at once."""


class Goodbyes:
    """What waits to be told."""

    def __init__(self, tell: Callable[[DisconnectContext], Awaitable[None]], log: FilteringBoundLogger) -> None:
        """`tell` raises nothing but what `Calls` does."""
        self._tell = tell
        self._log = log
        self._waiting: deque[DisconnectContext] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._telling = 0
        self._dropped = 0

    def put(self, context: DisconnectContext) -> None:
        """A client is gone."""
        if len(self._waiting) >= WAITING:
            if not self._dropped:
                self._log.warning("on_disconnect is left out: too many wait", waiting=WAITING)
            self._dropped += 1
            return
        self._dropped = 0
        self._waiting.append(context)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._run())

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until all are told, for at most `timeout_s`. False = they are not."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            self._telling += 1
            try:
                await self._tell(self._waiting.popleft())
            except (BackendUnavailable, Refused, Disconnected):
                pass  # logged and counted where it failed; there is no client left to be told
            finally:
                self._telling -= 1
            if not self._waiting and not self._telling:
                self._idle.set()
