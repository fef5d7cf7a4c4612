"""What a person does with the outbox: look at it, look at its dead letters, send them again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import text

from gateway.relay.events import TABLE
from gateway.relay.postgresql import PostgresStore
from gateway.relay.rows import Bounds, Figures
from gateway.relay.schema import NOW
from gateway.relay.sqlite import SqliteStore
from gateway.storage.sql import Database

_NO_CLAIMS: Final = Bounds(1, 1, 1)


class DeadRow(NamedTuple):
    """A row that was given up."""

    event_id: str
    channel: str
    attempts: int
    dead: datetime
    error: str


async def figures(database: Database) -> Figures:
    """How much there is. Raises SqlError."""
    if database.is_sqlite:
        return await SqliteStore(database, _NO_CLAIMS, owner="", lease_s=1).figures()
    return await PostgresStore(database, _NO_CLAIMS).figures()


async def dead_rows(database: Database, limit: int) -> list[DeadRow]:
    """The newest dead letters. Raises SqlError."""
    moment = "dead" if database.is_sqlite else "CAST(extract(epoch FROM dead) AS float8) AS dead"
    query = text(
        f"SELECT event_id, channel, attempts, {moment}, error FROM {TABLE} WHERE dead IS NOT NULL "
        "ORDER BY id DESC LIMIT :limit"
    )
    async with database.session() as session:
        found = await session.execute(query, {"limit": limit})
        return [
            DeadRow(row.event_id, row.channel, row.attempts, datetime.fromtimestamp(row.dead, UTC), row.error)
            for row in found
        ]


async def replay(database: Database, event_ids: list[str] | None = None) -> int:
    """Make dead letters rows again, with all their attempts; None = all. How many. Raises SqlError.

    Each keeps its place: it leaves before newer rows of its key that are still there.
    """
    now = NOW if database.is_sqlite else "clock_timestamp()"
    update = f"UPDATE {TABLE} SET dead = NULL, attempts = 0, error = '', available = {now} WHERE dead IS NOT NULL"
    async with database.session() as session:
        connection = await session.connection()
        if event_ids is None:
            return (await connection.execute(text(update))).rowcount
        one = text(f"{update} AND event_id = :event_id")
        return sum([(await connection.execute(one, {"event_id": each})).rowcount for each in event_ids])
