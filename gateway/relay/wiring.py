"""The parts of a relay, put together: for the control process, and for whoever wants one of its own."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from gateway.broker import Connection
from gateway.broker.ingest import IngestStream
from gateway.clock import Clock
from gateway.config import Outbox
from gateway.publisher.messages import Rules
from gateway.publisher.sending import Sender
from gateway.relay.counters import Counted, IngestReport, OutboxReport
from gateway.relay.ingest import Ingest
from gateway.relay.postgresql import PostgresStore
from gateway.relay.publishing import RowPublisher
from gateway.relay.relay import Relay
from gateway.relay.rows import Bounds, Store
from gateway.relay.sqlite import SqliteStore
from gateway.storage.sql import Database

CLAIMERS: Final = 2
"""Claims of one relay at the same time. SQLite: one, its writers take turns anyway."""


class RelayParts:
    """One relay, with what it holds. `run` until cancelled, then `aclose`."""

    def __init__(self, settings: Outbox, redis: Connection, prefix: str, rules: Rules) -> None:
        """`settings.url` must not be empty. `redis` stays the caller's to close."""
        self.report = OutboxReport(Counted())
        self.database = Database(settings)
        self._queues = [redis.queue() for _ in range(1 if settings.is_sqlite else CLAIMERS)]
        self._forgetting = redis.queue()
        forgetting = Sender(self._forgetting, prefix)
        publishers = [
            RowPublisher(Sender(queue, prefix, remember_s=settings.remember_s), forgetting, rules)
            for queue in self._queues
        ]
        self.relay = Relay(self.database, _store(self.database, settings, rules), publishers, settings, self.report)

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            for queue in (*self._queues, self._forgetting):
                group.create_task(queue.run())
            group.create_task(self.relay.run())

    async def aclose(self) -> None:
        """Close the database's connections."""
        await self.database.aclose()


class IngestParts:
    """The relay of the Redis Stream. `run` until cancelled."""

    def __init__(self, settings: Outbox, redis: Connection, prefix: str, rules: Rules, clock: Clock) -> None:
        """`redis` stays the caller's to close."""
        self.report = IngestReport(Counted())
        reads, writes, publishing = (redis.queue() for _ in range(3))
        self.ingest = Ingest(
            IngestStream(reads, writes, prefix=prefix, consumer=secrets.token_hex(8)),
            RowPublisher(Sender(publishing, prefix, remember_s=settings.remember_s), Sender(writes, prefix), rules),
            (reads, writes, publishing),
            settings,
            self.report,
            clock,
        )

    async def run(self) -> None:
        """Relay until cancelled."""
        await self.ingest.run()


def _store(database: Database, settings: Outbox, rules: Rules) -> Store:
    bounds = Bounds(settings.batch_rows, settings.batch_bytes, rules.max_bytes)
    if settings.is_sqlite:
        return SqliteStore(database, bounds, owner=secrets.token_hex(8), lease_s=settings.lease_s)
    return PostgresStore(database, bounds)
