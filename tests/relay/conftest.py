"""Relays in front of real databases and a real Redis; tests with `backend` on PostgreSQL and on SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Insert, text

from gateway.broker import Connection
from gateway.config import Outbox
from gateway.relay import outbox_event
from gateway.relay.events import TABLE
from gateway.relay.schema import LEASES, create
from gateway.relay.wiring import RelayParts
from gateway.storage.sql import Database
from tests.relay.relay_process import RULES
from tests.support.redis_server import RedisServer


class Backend:
    """An application with an outbox, and what its clients would get."""

    def __init__(self, settings: Outbox, redis_url: str) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.redis_url = redis_url
        self.redis = Redis.from_url(redis_url)

    async def insert(self, *events: Insert) -> None:
        """All of them in one transaction."""
        async with self.database.session() as session:
            for event in events:
                await session.execute(event)

    async def say(self, channel: str, *data: Any, key: str | None = None) -> None:
        """The same, of one channel."""
        await self.insert(*(outbox_event(channel, each, key=key) for each in data))

    async def rows(self) -> list[Mapping[str, Any]]:
        """What is in the table, oldest first."""
        async with self.database.session() as session:
            found = await session.execute(text(f"SELECT * FROM {TABLE} ORDER BY id"))
            return [row._asdict() for row in found]

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.database.session() as session:
            await session.execute(text(statement), values)

    def logged(self, channel: str) -> list[Any]:
        """The channel's log, oldest first: what a client gets that was there all the time."""
        entries: Any = self.redis.xrange(f"gw:log:{channel}")
        return [json.loads(fields[b"d"]) for _, fields in entries]

    def relay(self, **changes: Any) -> RelayParts:
        """A relay with a connection of its own to Redis. `relaying` runs it."""
        from gateway.config import Redis as RedisSettings

        settings = self.settings.model_copy(update=changes)
        self._client = Connection(RedisSettings(url=self.redis_url))
        return RelayParts(settings, self._client, "gw", RULES)

    @contextlib.asynccontextmanager
    async def relaying(self, **changes: Any) -> AsyncIterator[RelayParts]:
        """A relay that runs in this process."""
        parts = self.relay(**changes)
        client = self._client
        task = asyncio.get_running_loop().create_task(parts.run())
        try:
            yield parts
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
            await parts.aclose()
            await client.aclose()

    async def aclose(self) -> None:
        await self.database.aclose()
        self.redis.close()


@pytest.fixture(params=["postgresql", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Backend]:
    file = tmp_path / "app.db"
    url = f"sqlite:///{file}" if request.param == "sqlite" else request.getfixturevalue("postgres").url
    made = Backend(Outbox(url=url, poll_interval_s=0.05, backoff_s=0.01, backoff_max_s=0.05), redis_server.url)
    if request.param == "postgresql":
        await made.execute(f"DROP TABLE IF EXISTS {TABLE}, {LEASES}")
    await create(made.database)
    yield made
    await made.aclose()
