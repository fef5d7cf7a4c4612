"""Sessions are whole or nothing, the pool is bounded and counted, and what goes wrong is told without the password."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.config import Outbox
from gateway.errors import SqlError, SqlRefused, SqlUnavailable
from gateway.storage import sql
from gateway.storage.sql import Database, PoolStatus
from tests.support.postgresql import PostgresServer, postgres_server
from tests.support.sqlite import locked
from tests.support.waiting import wait_until

PASSWORD = "hunter2"
INSERT = text("INSERT INTO things (id) VALUES (:id)")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture(params=["postgresql", "sqlite"])
async def settings(request: pytest.FixtureRequest, file: Path) -> Outbox:
    """Of a database with an empty table, `things`."""
    if request.param == "sqlite":
        settings = Outbox(url=f"sqlite:///{file}", pool_size=1, pool_overflow=0)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url.replace("postgres@", f"postgres:{PASSWORD}@")
        settings = Outbox(url=url, pool_size=1, pool_overflow=0)
    async with opened(settings) as database, database.session() as session:
        await session.execute(text("DROP TABLE IF EXISTS things"))
        await session.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
    return settings


@pytest.fixture
async def database(settings: Outbox) -> AsyncIterator[Database]:
    async with opened(settings) as database:
        yield database


@contextlib.asynccontextmanager
async def opened(settings: Outbox, **changes: Any) -> AsyncIterator[Database]:
    database = Database(settings.model_copy(update=changes))
    try:
        yield database
    finally:
        await database.aclose()


async def things(database: Database) -> list[int]:
    async with database.session() as session:
        return list(await session.scalars(text("SELECT id FROM things ORDER BY id")))


class Holder:
    """A session that has inserted `number`, and stays open until told."""

    def __init__(self, database: Database, number: int) -> None:
        self.inserted = asyncio.Event()
        self.go_on = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._hold(database, number))

    async def _hold(self, database: Database, number: int) -> None:
        async with database.session() as session:
            await session.execute(INSERT, {"id": number})
            self.inserted.set()
            await self.go_on.wait()

    async def end(self) -> None:
        self.go_on.set()
        await self.task

    async def cancel(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def holding(database: Database, number: int) -> Holder:
    holder = Holder(database, number)
    async with asyncio.timeout(20):
        await holder.inserted.wait()
    return holder


# Sessions.


async def test_what_a_session_did_is_there_for_others_once_it_has_ended(settings: Outbox, database: Database) -> None:
    async with opened(settings) as other:
        async with database.session() as session:
            await session.execute(INSERT, {"id": 1})
            await session.execute(INSERT, {"id": 2})
            assert not database.is_sqlite or await asyncio.to_thread(read, settings) == []
            assert database.is_sqlite or await things(other) == []
        assert await things(other) == [1, 2]


def read(settings: Outbox) -> list[int]:
    """As another process does: `session` would wait for its turn to write."""
    with contextlib.closing(sqlite3.connect(settings.url.partition("///")[2])) as connection:
        return [number for (number,) in connection.execute("SELECT id FROM things")]


async def test_an_exception_takes_everything_back_and_goes_on_as_it_is(database: Database) -> None:
    with pytest.raises(LookupError, match="of the application"):
        async with database.session() as session:
            await session.execute(INSERT, {"id": 1})
            raise LookupError("of the application")
    assert await things(database) == []


async def test_what_the_database_refuses_takes_everything_back(database: Database) -> None:
    with pytest.raises(SqlRefused, match=r"(?i)unique"):
        async with database.session() as session:
            await session.execute(INSERT, {"id": 1})
            await session.execute(INSERT, {"id": 1})
    with pytest.raises(SqlRefused, match="nowhere"):
        async with database.session() as session:
            await session.execute(INSERT, {"id": 2})
            await session.execute(text("SELECT * FROM nowhere"))
    assert await things(database) == []
    assert database.pool_status() == PoolStatus(size=1, checked_in=1, checked_out=0, overflow=0, waiting=0)


async def test_a_session_that_is_cancelled_leaves_nothing(database: Database) -> None:
    await (await holding(database, 1)).cancel()
    assert database.pool_status().checked_out == 0
    assert await things(database) == []


async def test_at_whichever_step_it_is_cancelled_it_leaves_all_or_nothing_and_no_lock(database: Database) -> None:
    for steps in range(60):
        holder = Holder(database, 1)
        holder.go_on.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        holder.task.cancel()
        await asyncio.wait([holder.task])
        assert holder.task.cancelled() or holder.task.exception() is None
        assert database.pool_status()[2:] == (0, 0, 0)
        async with database.session() as session:  # would wait for a lock that was left behind, and fail
            found = list(await session.scalars(text("SELECT id FROM things")))
            await session.execute(text("DELETE FROM things"))
        assert found in ([], [1])
        assert holder.task.cancelled() or found == [1]


async def test_who_is_cancelled_while_waiting_for_a_connection_takes_none(database: Database) -> None:
    first = await holding(database, 1)
    second = Holder(database, 2)
    await wait_until(lambda: database.pool_status().waiting == 1, "the second session waits")
    second.task.cancel()
    await first.end()
    await asyncio.wait([second.task])
    assert second.task.cancelled()
    assert database.pool_status() == PoolStatus(size=1, checked_in=1, checked_out=0, overflow=0, waiting=0)
    assert await things(database) == [1]


async def test_a_beginning_that_takes_too_long_is_cancelled_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "PATIENCE_S", 0.01)
    first = await holding(database, 1)
    second = Holder(database, 2)
    await wait_until(lambda: database.pool_status().waiting == 1, "the second session waits")
    await second.cancel()
    assert database.pool_status()[2:] == (1, 0, 0)
    await first.end()
    assert await things(database) == [1]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
async def test_who_is_cancelled_while_another_program_has_the_file_reads_of_no_error_instead(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes an SqlError as a reason to try again would never end."""
    monkeypatch.setattr(sql, "PATIENCE_S", 0.01)
    monkeypatch.setattr(sql, "BUSY_TIMEOUT_MS", 1000)
    async with locked(file):
        waits = Holder(database, 1)
        await wait_until(lambda: database.pool_status().checked_out == 1, "it has its connection, and waits")
        await waits.cancel()
        assert database.pool_status().checked_out == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left of it"
    assert await things(database) == []


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
async def test_a_cancellation_stays_one_when_cleaning_up_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await holding(database, 1)

    async def fail(session: AsyncSession) -> None:
        await close(session)
        raise OperationalError("close", None, sqlite3.OperationalError("database is locked"))

    close = AsyncSession.close
    monkeypatch.setattr(AsyncSession, "close", fail)
    await holder.cancel()
    monkeypatch.undo()
    assert await things(database) == []


# The pool.


async def test_nothing_is_open_before_the_first_session(settings: Outbox) -> None:
    async with opened(settings, pool_size=3) as database:
        assert database.pool_status() == PoolStatus(size=3, checked_in=0, checked_out=0, overflow=0, waiting=0)


async def test_connections_in_use_beyond_the_size_and_waited_for_are_counted(postgres: PostgresServer) -> None:
    async with opened(Outbox(url=postgres.url, pool_size=2, pool_overflow=1)) as database:
        async with database.session() as session:
            await session.execute(text("DROP TABLE IF EXISTS things"))
            await session.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
        assert database.pool_status() == PoolStatus(size=2, checked_in=1, checked_out=0, overflow=0, waiting=0)
        seen, holders = [], []
        for number in range(3):
            holders.append(await holding(database, number))
            seen.append(database.pool_status())
        assert seen == [
            PoolStatus(size=2, checked_in=0, checked_out=1, overflow=0, waiting=0),
            PoolStatus(size=2, checked_in=0, checked_out=2, overflow=0, waiting=0),
            PoolStatus(size=2, checked_in=0, checked_out=3, overflow=1, waiting=0),
        ]
        late = [Holder(database, number) for number in (3, 4)]
        await wait_until(lambda: database.pool_status().waiting == 2, "two sessions wait")
        for holder in (*holders, *late):
            await holder.end()
        assert database.pool_status() == PoolStatus(size=2, checked_in=2, checked_out=0, overflow=0, waiting=0)
        assert await things(database) == [0, 1, 2, 3, 4]


async def test_sqlite_has_fewer_connections_than_were_configured_for_a_server(file: Path) -> None:
    async with opened(Outbox(url=f"sqlite:///{file}")) as database:
        assert database.pool_status().size == sql.SQLITE_POOL < Outbox().pool_size
    async with opened(Outbox(url=f"sqlite:///{file}", pool_size=1)) as database:
        assert database.pool_status().size == 1


async def test_a_connection_that_does_not_become_free_is_told_in_words(settings: Outbox) -> None:
    async with opened(settings, pool_timeout_s=0.05) as database:
        holder = await holding(database, 1)
        with pytest.raises(SqlUnavailable) as caught:
            await things(database)
        assert str(caught.value) == "no connection became free in time"
        assert told_without_password(caught.value)
        assert database.pool_status().waiting == 0
        await holder.end()
        assert await things(database) == [1]


def told_without_password(error: SqlError) -> bool:
    """Also with all the errors that it comes from."""
    return PASSWORD not in "".join(traceback.format_exception(error))


# Databases that go, and files.


async def test_a_server_that_was_restarted_is_found_again_at_the_first_attempt() -> None:
    with postgres_server() as server:
        async with opened(Outbox(url=server.url, pool_size=2)) as database:
            async with database.session() as session:
                await session.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            assert database.pool_status().checked_in == 1  # of the server that is gone
            assert await things(database) == []


async def test_a_server_that_is_away_or_goes_in_the_middle_is_unavailable() -> None:
    with postgres_server() as server:
        async with opened(Outbox(url=server.url.replace("postgres@", f"postgres:{PASSWORD}@"))) as database:
            assert PASSWORD not in f"{database!r} {database.name}"
            async with database.session() as session:
                await session.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
            with pytest.raises(SqlUnavailable):
                async with database.session() as session:
                    await session.execute(INSERT, {"id": 1})
                    await asyncio.to_thread(server.stop)
                    await session.execute(INSERT, {"id": 2})
            with pytest.raises(SqlUnavailable) as caught:
                await things(database)
            assert told_without_password(caught.value)
            assert database.pool_status()[2:] == (0, 0, 0)
            await asyncio.to_thread(server.start)
            assert await things(database) == []


async def test_a_database_that_there_is_not_is_refused_without_the_password(postgres: PostgresServer) -> None:
    url = postgres.url.replace("postgres@/postgres", f"postgres:{PASSWORD}@/nowhere")
    async with opened(Outbox(url=url)) as database:
        with pytest.raises(SqlRefused, match=r'"nowhere" does not exist') as caught:
            await things(database)
        assert told_without_password(caught.value)


async def test_a_folder_that_there_is_not_makes_sqlite_unavailable(tmp_path: Path) -> None:
    async with opened(Outbox(url=f"sqlite:///{tmp_path}/nowhere/app.db")) as database:
        with pytest.raises(SqlUnavailable, match="unable to open"):
            await things(database)


async def test_sqlite_readers_see_what_is_committed_while_somebody_writes(file: Path) -> None:
    settings = Outbox(url=f"sqlite:///{file}")
    async with opened(settings) as database:
        async with database.session() as session:
            await session.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
            assert (await session.scalar(text("PRAGMA synchronous"))) == 1  # NORMAL
        with contextlib.closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        holder = await holding(database, 1)
        assert await asyncio.to_thread(read, settings) == []
        await holder.end()
        assert await asyncio.to_thread(read, settings) == [1]


async def test_sqlite_writers_take_turns(file: Path) -> None:
    async with opened(Outbox(url=f"sqlite:///{file}")) as database:
        async with database.session() as session:
            await session.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
        first = await holding(database, 1)
        second = Holder(database, 2)
        await wait_until(lambda: database.pool_status().checked_out == 2, "the second one has its connection")
        assert not second.inserted.is_set()
        await first.end()
        await second.end()
        assert await things(database) == [1, 2]
