"""The only place that opens connections to an SQL database: PostgreSQL with asyncpg, SQLite with aiosqlite.

Connections are pooled: looked at before they are used, replaced when they are old. A session is one transaction that is
committed at its end, or rolled back when anything is raised in it. What goes wrong with the database becomes an
SqlError here, so that nobody else needs to know the drivers' errors; its text never has the URL, which has a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple

import asyncpg
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gateway.config import Outbox
from gateway.errors import SqlError, SqlRefused, SqlUnavailable
from gateway.tasks import cancellations, raise_if_cancelled

SQLITE_POOL: Final = 4
SQLITE_OVERFLOW: Final = 2
PATIENCE_S: Final = 3.0
"""Time that a transaction has to begin or end when whoever wants it is cancelled."""
BUSY_TIMEOUT_MS: Final = 5000
"""Time that SQLite waits for another process's transaction."""
ENDING_S: Final = 6.0
"""Time that what was cancelled has to end: more than SQLite waits, which nothing interrupts. What were left then would
hang for ever when the loop ends: aiosqlite waits for the thread that it has stopped."""
GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    sqlite3.OperationalError,
)
"""Errors after which the same command may work later. (Those of SQLite are told apart by their text.)"""
SQLITE_PASSING: Final = ("locked", "busy", "disk i/o", "unable to open", "disk is full")


class PoolStatus(NamedTuple):
    """Connections at one moment."""

    size: int
    """Connections that may stay open."""
    checked_in: int
    """Open and unused."""
    checked_out: int
    """In use."""
    overflow: int
    """Open above `size`, never negative."""
    waiting: int
    """Sessions that wait for a connection; on SQLite also those that wait for their turn to write."""


class Database:
    """One database. Opens nothing before the first session; `aclose` closes what is open and unused."""

    def __init__(self, settings: Outbox) -> None:
        """`settings.url` must not be empty."""
        self._settings = settings
        self._waiting = 0
        self.is_sqlite = settings.is_sqlite
        self._engine = _sqlite(settings) if self.is_sqlite else _postgresql(settings)

    def __repr__(self) -> str:
        return f"Database({self.name})"

    @property
    def name(self) -> str:
        """For logs: never with a password."""
        url = self._engine.url
        return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end, rolled back when something is raised. Raises SqlError."""
        with _sql_errors():
            session = AsyncSession(self._engine, expire_on_commit=False, autoflush=False)
            try:
                self._waiting += 1
                try:
                    await _undisturbed(session.connection())
                finally:
                    self._waiting -= 1
                yield session
                await _undisturbed(session.commit())
            finally:
                # Rolls back what is not committed.
                await _undisturbed(session.close())

    def pool_status(self) -> PoolStatus:
        """What the pool holds. Asks nobody."""
        pool = self._engine.pool
        if not isinstance(pool, AsyncAdaptedQueuePool):
            raise TypeError(f"a pool of an unknown kind: {type(pool).__name__}")
        return PoolStatus(
            size=pool.size(),
            checked_in=pool.checkedin(),
            checked_out=pool.checkedout(),
            overflow=max(0, pool.overflow()),
            waiting=self._waiting,
        )

    async def listen(self, channel: str, heard: Callable[[], None]) -> None:
        """Call `heard` for each NOTIFY on `channel`, until cancelled. PostgreSQL only. Raises SqlError when the
        connection, which is one of the pool's, has ended."""
        ended = asyncio.Event()
        with _sql_errors():
            async with self._engine.connect() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                driver.add_termination_listener(lambda _connection: ended.set())
                await driver.add_listener(channel, lambda *_arguments: heard())
                try:
                    await ended.wait()
                finally:
                    await connection.invalidate()
        raise SqlUnavailable("the connection that listens has ended")

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Callable[[], Any]]:
        """A call that tells, as a number that changes, whether somebody else has written to the SQLite file."""
        with _sql_errors():
            async with self._engine.connect() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection

                async def version() -> int:
                    with _sql_errors():
                        async with driver.execute("PRAGMA data_version") as cursor:
                            (number,) = await cursor.fetchone()
                    return int(number)

                try:
                    yield version
                finally:
                    await connection.invalidate()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


def _postgresql(settings: Outbox) -> AsyncEngine:
    return create_async_engine(
        _url(settings.url, "postgresql+asyncpg"),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=settings.pool_size,
        max_overflow=settings.pool_overflow,
        pool_timeout=settings.pool_timeout_s,
        pool_recycle=settings.pool_recycle_s,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"timeout": settings.command_timeout_s, "command_timeout": settings.command_timeout_s},
    )


def _sqlite(settings: Outbox) -> AsyncEngine:
    engine = create_async_engine(
        _url(settings.url, "sqlite+aiosqlite"),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=min(settings.pool_size, SQLITE_POOL),
        max_overflow=min(settings.pool_overflow, SQLITE_OVERFLOW),
        pool_timeout=settings.pool_timeout_s,
        pool_recycle=settings.pool_recycle_s,
        pool_pre_ping=True,
        hide_parameters=True,
    )

    def attempt(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
        # What aiosqlite cannot open leaves a thread that may outlive the event loop, and fails there.
        sqlite3.connect(*arguments, **options).close()

    def prepare(connection: Any, _record: object) -> None:
        # Transactions begin where `begin` below says so, not where the driver guesses.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # What the relay writes may be lost with the machine's power: a row that is published again is not doubled.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    def begin(connection: Any) -> None:
        # A transaction that reads first and writes later would fail when another one has written meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine.sync_engine, "do_connect", attempt)
    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def _url(text: str, driver: str) -> URL:
    url = make_url(text).set(drivername=driver)
    if "sslmode" in url.query:  # as libpq calls it
        mode = url.query["sslmode"]
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url


async def _undisturbed(work: Coroutine[Any, Any, Any]) -> None:
    """`work`, in whose middle nobody is cancelled but after it: a connection that is abandoned while a transaction
    begins or ends would hold its locks. What takes too long is cancelled all the same, and waited for: the connection
    can be closed only then."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=PATIENCE_S)
        if task.cancel():
            await asyncio.wait([task], timeout=ENDING_S)
        if task.done() and not task.cancelled():
            task.exception()  # looked at: the cancellation is what is told
        raise


@contextlib.contextmanager
def _sql_errors() -> Iterator[None]:
    """What the drivers raise, as SqlError. A cancellation stays one, whatever else fails on its way: who takes an
    SqlError as a reason to try again would never end."""
    cancelled_before = cancellations()
    try:
        with _translated():
            yield
    except SqlError:
        raise_if_cancelled(cancelled_before)
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SqlError:
        raise
    except PoolTimeout as error:
        raise SqlUnavailable("no connection became free in time") from error
    except DBAPIError as error:
        raise _judged(error.orig or error, error.connection_invalidated) from error
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error) as error:
        raise _judged(error, lost=False) from error
    except (OSError, TimeoutError) as error:
        raise SqlUnavailable(str(error) or type(error).__name__) from error


def _judged(error: BaseException, lost: bool) -> SqlError:
    """Temporary, or not. SQLAlchemy puts the driver's own error behind one of its own."""
    text = (str(error) or type(error).__name__).partition(">: ")
    said = " ".join((text[2] or text[0]).split())
    cause = error.__cause__ or error
    passing = lost or isinstance(cause, (*GONE, OSError, TimeoutError, OperationalError))
    if isinstance(cause, sqlite3.OperationalError):
        passing = any(word in said.lower() for word in SQLITE_PASSING)
    return SqlUnavailable(said) if passing else SqlRefused(said)
