"""Ends the streams whose producers have died, and compacts what has ended without their doing.

Every node runs one, and they need not know of each other: each step looks at the stream's state in Redis and does
nothing where another was faster.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from gateway.broker.streams import StreamStore
from gateway.errors import BrokerError, StreamError
from gateway.log import get_logger
from gateway.streams.text import pack

INTERVAL_S: Final = 1.0
"""Time between two looks."""
AT_ONCE: Final = 100
"""Streams that are looked after in one look."""


class Reaper:
    """Looks after the streams that are due."""

    def __init__(self, store: StreamStore, *, interval_s: float = INTERVAL_S) -> None:
        self._store = store
        self._interval_s = interval_s
        self._log = get_logger()

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            try:
                more = await self.look() >= AT_ONCE
            except BrokerError as error:
                self._log.debug("streams not looked after", error=str(error))
                more = False
            await asyncio.sleep(0 if more else self._interval_s)

    async def look(self) -> int:
        """Do what is due, for about AT_ONCE streams; how many. Raises BrokerError."""
        keys = await self._store.due(await self._store.now_ms(), AT_ONCE)
        for key in keys:
            await self._look_after(key)
        return len(keys)

    async def _look_after(self, key: str) -> None:
        stored = await self._store.read(key)
        if stored is not None and stored.status == "active":
            outcome = await self._store.lose(key, stored.generation)
            if outcome.name != "ok":
                return
            self._log.warning("producer of a stream lost", stream=key, records=outcome.seq)
            stored = await self._store.read(key)
        if stored is None or stored.expired or stored.compacted or not stored.parts:
            await self._store.forget_due(key)
            return
        try:
            await self._store.compact(key, stored.generation, pack(b"".join(stored.parts)))
        except StreamError as error:
            self._log.warning("stream not compacted", stream=key, error=str(error))
            await self._store.forget_due(key)
