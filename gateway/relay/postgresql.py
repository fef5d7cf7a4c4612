"""Rows in PostgreSQL, claimed by advisory locks on their partitions.

A claim is one transaction: lock some partitions that have due rows, read their oldest rows, let them be published,
delete them, commit. The locks go with the transaction, however it ends; so a relay that is killed leaves its rows as
they were, and the next one publishes them again, under the same event ids. The rule that is easiest to break: the rows
are read by a statement of their own after the locks are held, or it would see rows that the last holder has deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from sqlalchemy import Row as SqlRow
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.relay.events import TABLE
from gateway.relay.rows import Bounds, Claim, Figures, Row
from gateway.relay.schema import LOCKS, NOTIFY_CHANNEL, PARTITIONS
from gateway.storage.sql import Database

SHARE: Final = 16
"""Partitions in one claim, so that others find some, too."""
COUNT_LIMIT: Final = 100_000
"""Rows that are counted at most: counting more would cost more than it tells."""

_DUE: Final = f"""
    one.partition = number AND one.dead IS NULL AND one.available <= now() AND (
        NOT (SELECT EXISTS (
            SELECT 1 FROM {TABLE} AS any_held
            WHERE any_held.dead IS NULL AND any_held.attempts > 0 AND any_held.available > now()))
        OR NOT EXISTS (
            SELECT 1 FROM {TABLE} AS held
            WHERE held.partition = number AND held.dead IS NULL AND held.attempts > 0 AND held.available > now()
                AND held.id < one.id AND coalesce(held.key, held.channel) = coalesce(one.key, one.channel)))"""
"""Not dead, not too early, and not behind a row of the same key that waits for its next attempt. Whether there is any
such row is asked once for all: mostly there is none."""

_LOCK: Final = text(f"""
    WITH due AS MATERIALIZED (
        SELECT number FROM generate_series(0, {PARTITIONS - 1}) AS number
            CROSS JOIN LATERAL (SELECT FROM {TABLE} AS one WHERE {_DUE} ORDER BY id LIMIT 1) AS first
        ORDER BY (number + CAST(:start AS int)) % {PARTITIONS})
    SELECT number FROM due WHERE pg_try_advisory_xact_lock({LOCKS}, number) LIMIT {SHARE}""")

_READ: Final = text(f"""
    SELECT id, event_id, channel, key, attempts, CASE WHEN size <= :max_bytes THEN payload END AS payload, created
    FROM (
        SELECT found.*, sum(least(size, :max_bytes)) OVER (ORDER BY id) - least(size, :max_bytes) AS before
        FROM unnest(CAST(:partitions AS int[])) AS number CROSS JOIN LATERAL (
            SELECT id, event_id, channel, coalesce(key, channel) AS key, attempts, payload,
                octet_length(payload) AS size, CAST(extract(epoch FROM created) AS float8) AS created
            FROM {TABLE} AS one WHERE {_DUE}
            ORDER BY id LIMIT :each) AS found) AS summed
    WHERE before < :bytes ORDER BY id""")

_DELETE: Final = text(f"DELETE FROM {TABLE} WHERE id = ANY(CAST(:ids AS bigint[]))")
_RETRY: Final = text(f"""
    UPDATE {TABLE} SET attempts = attempts + 1, error = given.error,
        available = clock_timestamp() + make_interval(secs => given.delay)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:delays AS float8[]), CAST(:errors AS text[])) AS given (id, delay, error)
    WHERE {TABLE}.id = given.id""")
_DEAD: Final = text(f"""
    UPDATE {TABLE} SET attempts = attempts + 1, error = given.error, dead = clock_timestamp()
    FROM unnest(CAST(:ids AS bigint[]), CAST(:errors AS text[])) AS given (id, error)
    WHERE {TABLE}.id = given.id""")
_FIGURES: Final = text(f"""
    SELECT (SELECT count(*) FROM (SELECT 1 FROM {TABLE} WHERE dead IS NULL LIMIT {COUNT_LIMIT}) AS alive),
        (SELECT count(*) FROM (SELECT 1 FROM {TABLE} WHERE dead IS NOT NULL LIMIT {COUNT_LIMIT}) AS given_up),
        coalesce((SELECT CAST(extract(epoch FROM clock_timestamp() - created) AS float8)
            FROM {TABLE} WHERE dead IS NULL AND available <= now() ORDER BY id LIMIT 1), 0)""")


class PostgresStore:
    """The table in one database."""

    def __init__(self, database: Database, bounds: Bounds, *, draw: Callable[[int], int] = random.randrange) -> None:
        """`draw`: a number below the one that is given."""
        self._database = database
        self._rows = bounds.rows
        self._bounds = {"bytes": bounds.total_bytes, "max_bytes": bounds.max_bytes}
        self._draw = draw

    @contextlib.asynccontextmanager
    async def claim(self) -> AsyncIterator[Claim]:
        async with self._database.session() as session:
            # From another start each time, so that relays do not all go for the same ones.
            locked = await session.execute(_LOCK, {"start": self._draw(PARTITIONS)})
            partitions = [number for (number,) in locked]
            claim = Claim(await self._read(session, partitions) if partitions else ())
            yield claim
            await _settle(session, claim)

    async def _read(self, session: AsyncSession, partitions: list[int]) -> list[Row]:
        each = -(-self._rows // len(partitions))
        found = await session.execute(_READ, {"partitions": partitions, "each": each, **self._bounds})
        return [to_row(row) for row in found]

    async def hints(self) -> AsyncIterator[None]:
        """NOTIFY."""
        heard = asyncio.Event()
        listening = asyncio.get_running_loop().create_task(self._database.listen(NOTIFY_CHANNEL, heard.set))
        listening.add_done_callback(lambda _task: heard.set())
        try:
            while True:
                await heard.wait()
                heard.clear()
                if listening.done():
                    listening.result()
                yield
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def figures(self) -> Figures:
        async with self._database.session() as session:
            return Figures(*(await session.execute(_FIGURES)).one())


def to_row(row: SqlRow[Any]) -> Row:
    """As both databases give it."""
    return Row(row.id, row.event_id, row.channel, row.key, row.attempts, row.payload, row.created)


async def _settle(session: AsyncSession, claim: Claim) -> None:
    if claim.published:
        await session.execute(_DELETE, {"ids": claim.published})
    if claim.retry:
        ids, delays, errors = zip(*claim.retry, strict=True)
        await session.execute(_RETRY, {"ids": list(ids), "delays": list(delays), "errors": list(errors)})
    if claim.dead:
        ids, errors = zip(*claim.dead, strict=True)
        await session.execute(_DEAD, {"ids": list(ids), "errors": list(errors)})
