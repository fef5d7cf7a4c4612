"""Rows in SQLite, claimed by leases on their partitions.

SQLite has one writer at a time, and backends must not wait for Redis: so a claim is two short transactions, one that
takes leases and reads, one that deletes and gives the leases back. A relay that is killed leaves its leases, and their
rows wait until these are over. One that hangs for longer than its lease publishes what another one publishes, too; both
do so in order and under the same event ids, so what clients get is what one of them would have given them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import SqlError
from gateway.relay.events import TABLE
from gateway.relay.postgresql import COUNT_LIMIT, SHARE, to_row
from gateway.relay.rows import Bounds, Claim, Figures, Row
from gateway.relay.schema import LEASES, NOW, PARTITIONS
from gateway.storage.sql import Database

LOOK_S: Final = 0.02
"""Time between two looks whether somebody has written to the file: one read of a number in shared memory."""

_DUE: Final = f"""
    one.dead IS NULL AND one.available <= {NOW} AND (
        NOT (SELECT EXISTS (
            SELECT 1 FROM {TABLE} AS any_held
            WHERE any_held.dead IS NULL AND any_held.attempts > 0 AND any_held.available > {NOW}))
        OR NOT EXISTS (
            SELECT 1 FROM {TABLE} AS held
            WHERE held.partition = one.partition AND held.dead IS NULL AND held.attempts > 0
                AND held.available > {NOW} AND held.id < one.id
                AND coalesce(held.key, held.channel) = coalesce(one.key, one.channel)))"""
"""Not dead, not too early, and not behind a row of the same key that waits for its next attempt, as in PostgreSQL."""

_FREE: Final = text(f"""
    WITH RECURSIVE numbers (number) AS (
        SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < {PARTITIONS - 1})
    SELECT number FROM numbers
    WHERE number NOT IN (SELECT partition FROM {LEASES} WHERE until > {NOW} AND owner <> :owner)
        AND EXISTS (SELECT 1 FROM {TABLE} AS one WHERE one.partition = number AND {_DUE})
    ORDER BY random() LIMIT {SHARE}""")
_LEASE: Final = text(f"""
    INSERT INTO {LEASES} (partition, owner, until)
    SELECT value, :owner, {NOW} + :lease_s FROM json_each(:partitions) WHERE true
    ON CONFLICT (partition) DO UPDATE SET owner = excluded.owner, until = excluded.until""")
_RETURN: Final = text(f"DELETE FROM {LEASES} WHERE owner = :owner")
_READ: Final = text(f"""
    SELECT id, event_id, channel, key, attempts, CASE WHEN size <= :max_bytes THEN payload END AS payload, created
    FROM (
        SELECT *, sum(min(size, :max_bytes)) OVER (ORDER BY id) - min(size, :max_bytes) AS before FROM (
            SELECT id, event_id, channel, coalesce(key, channel) AS key, attempts, payload,
                length(CAST(payload AS BLOB)) AS size, created
            FROM {TABLE} AS one
            WHERE partition IN (SELECT value FROM json_each(:partitions)) AND {_DUE} ORDER BY id LIMIT :rows))
    WHERE before < :bytes ORDER BY id""")
_DELETE: Final = text(f"DELETE FROM {TABLE} WHERE id IN (SELECT value FROM json_each(:ids))")
_RETRY: Final = text(f"""
    UPDATE {TABLE} SET attempts = attempts + 1, error = :error, available = {NOW} + :delay_s WHERE id = :id""")
_DEAD: Final = text(f"UPDATE {TABLE} SET attempts = attempts + 1, error = :error, dead = {NOW} WHERE id = :id")
_FIGURES: Final = text(f"""
    SELECT (SELECT count(*) FROM (SELECT 1 FROM {TABLE} WHERE dead IS NULL LIMIT {COUNT_LIMIT})),
        (SELECT count(*) FROM (SELECT 1 FROM {TABLE} WHERE dead IS NOT NULL LIMIT {COUNT_LIMIT})),
        coalesce((SELECT {NOW} - created
            FROM {TABLE} WHERE dead IS NULL AND available <= {NOW} ORDER BY id LIMIT 1), 0)""")


class SqliteStore:
    """The table in one file."""

    def __init__(self, database: Database, bounds: Bounds, *, owner: str, lease_s: float) -> None:
        """`owner`: name of this relay, no other has it; it makes one claim after the other."""
        self._database = database
        self._owner = owner
        self._bounds = {"rows": bounds.rows, "bytes": bounds.total_bytes, "max_bytes": bounds.max_bytes}
        self._lease_s = lease_s

    @contextlib.asynccontextmanager
    async def claim(self) -> AsyncIterator[Claim]:
        claim = Claim(await self._take())
        try:
            yield claim
        except BaseException:
            # Whoever is next need not wait for the lease to end.
            with contextlib.suppress(SqlError):
                async with self._database.session() as session:
                    await session.execute(_RETURN, {"owner": self._owner})
            raise
        if claim.rows:
            async with self._database.session() as session:
                await self._settle(session, claim)

    async def _take(self) -> list[Row]:
        async with self._database.session() as session:
            # Its own leases are of a claim that did not get to its end: nobody else holds it.
            found = [number for (number,) in await session.execute(_FREE, {"owner": self._owner})]
            if not found:
                return []
            partitions = json.dumps(found)
            lease = {"owner": self._owner, "lease_s": self._lease_s, "partitions": partitions}
            await session.execute(_LEASE, lease)
            rows = await session.execute(_READ, {"partitions": partitions, **self._bounds})
            return [to_row(row) for row in rows]

    async def _settle(self, session: AsyncSession, claim: Claim) -> None:
        if claim.published:
            await session.execute(_DELETE, {"ids": json.dumps(claim.published)})
        for retry in claim.retry:
            await session.execute(_RETRY, retry._asdict())
        for dead in claim.dead:
            await session.execute(_DEAD, dead._asdict())
        await session.execute(_RETURN, {"owner": self._owner})

    async def hints(self) -> AsyncIterator[None]:
        """Changes of the file."""
        async with self._database.watching() as version:
            before = await version()
            while True:
                await asyncio.sleep(LOOK_S)
                now = await version()
                if now != before:
                    before = now
                    yield

    async def figures(self) -> Figures:
        async with self._database.session() as session:
            return Figures(*(await session.execute(_FIGURES)).one())
