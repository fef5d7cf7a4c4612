"""The table, as the statements that make it.

`id` gives the order. `partition` is a number from 0 to 63 that follows from the key (or, without one, from the
channel): relays share the work by partitions, so rows that must stay in order are never in two hands. SQLite has no
hash function, so there a sum over the last characters of the key has to do: it spreads keys that end differently.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from gateway.errors import SqlError, SqlRefused
from gateway.relay.events import TABLE
from gateway.storage.sql import Database

PARTITIONS: Final = 64
NOTIFY_CHANNEL: Final = TABLE
LEASES: Final = f"{TABLE}_leases"
LOCKS: Final = 0x6F7574
"""Class of the advisory locks on partitions, so that they do not meet those of others: "out"."""
NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
"""Seconds since 1970 by SQLite."""

_POSTGRESQL: Final = (
    f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL DEFAULT gen_random_uuid()::text UNIQUE CHECK (event_id <> ''),
    channel text NOT NULL CHECK (channel <> ''),
    payload text NOT NULL CHECK (payload::json IS NOT NULL),
    key text,
    partition smallint NOT NULL GENERATED ALWAYS AS (hashtext(coalesce(key, channel)) & {PARTITIONS - 1}) STORED,
    created timestamptz NOT NULL DEFAULT now(),
    available timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    dead timestamptz,
    error text NOT NULL DEFAULT ''
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000)""",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_due ON {TABLE} (partition, id) WHERE dead IS NULL",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_tried ON {TABLE} (partition, available) WHERE dead IS NULL AND attempts > 0",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_dead ON {TABLE} (id) WHERE dead IS NOT NULL",
)
_NOTIFY: Final = (
    f"""\
CREATE OR REPLACE FUNCTION {TABLE}_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{NOTIFY_CHANNEL}', '');
    RETURN NULL;
END $$""",
    f"DROP TRIGGER IF EXISTS {TABLE}_notify ON {TABLE}",
    f"""\
CREATE TRIGGER {TABLE}_notify AFTER INSERT ON {TABLE}
    FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_notify()""",
)
_NO_NOTIFY: Final = (f"DROP TRIGGER IF EXISTS {TABLE}_notify ON {TABLE}",)

_LAST: Final = " + ".join(
    f"coalesce(unicode(substr(coalesce(key, channel), {-place}, 1)), 0) * {factor}"
    for place, factor in ((1, 1), (2, 10), (3, 37), (4, 53))
)
_SQLITE: Final = (
    f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))) UNIQUE CHECK (event_id <> ''),
    channel TEXT NOT NULL CHECK (channel <> ''),
    payload TEXT NOT NULL CHECK (json_valid(payload)),
    key TEXT,
    partition INTEGER NOT NULL GENERATED ALWAYS AS (({_LAST}) % {PARTITIONS}) STORED,
    created REAL NOT NULL DEFAULT {NOW},
    available REAL NOT NULL DEFAULT {NOW},
    attempts INTEGER NOT NULL DEFAULT 0,
    dead REAL,
    error TEXT NOT NULL DEFAULT ''
)""",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_due ON {TABLE} (partition, id) WHERE dead IS NULL",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_tried ON {TABLE} (partition, available) WHERE dead IS NULL AND attempts > 0",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_dead ON {TABLE} (id) WHERE dead IS NOT NULL",
    f"CREATE TABLE IF NOT EXISTS {LEASES} (partition INTEGER PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL)",
)


def statements(*, sqlite: bool, notify: bool = True) -> tuple[str, ...]:
    """What makes the table, and does nothing where it is there. `notify`: PostgreSQL only, a trigger that wakes relays
    at the commit; without one they find out when they look."""
    if sqlite:
        return _SQLITE
    return _POSTGRESQL + (_NOTIFY if notify else _NO_NOTIFY)


def script(*, sqlite: bool, notify: bool = True) -> str:
    """The statements as a script for `psql` or `sqlite3`."""
    return "".join(f"{statement};\n" for statement in statements(sqlite=sqlite, notify=notify))


def is_missing(error: SqlError) -> bool:
    """Whether the database says that it does not know the table."""
    return isinstance(error, SqlRefused) and any(
        words in str(error) for words in (f'"{TABLE}" does not exist', f"no such table: {TABLE}")
    )


async def create(database: Database, *, notify: bool = True) -> None:
    """Make the table. Several may do so at once. Raises SqlError."""
    async with database.session() as session:
        connection = await session.connection()
        if not database.is_sqlite:
            await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCKS})
        for statement in statements(sqlite=database.is_sqlite, notify=notify):
            await connection.exec_driver_sql(statement)
