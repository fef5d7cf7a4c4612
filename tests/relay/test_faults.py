"""What is around a relay fails, or the relay itself: nothing is lost, nothing is doubled, the order stays."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.config import Outbox
from gateway.errors import SqlUnavailable
from gateway.relay import outbox_event
from gateway.relay.rows import Claim
from gateway.relay.schema import create
from gateway.relay.sqlite import SqliteStore
from tests.relay.conftest import Backend
from tests.support.postgresql import PostgresServer, postgres_server
from tests.support.redis_server import RedisServer
from tests.support.sqlite import locked
from tests.support.waiting import DEADLINE_S, wait_until

ROOMS = 20


@contextlib.contextmanager
def relay_process(backend: Backend, **changes: float) -> Iterator[subprocess.Popen[str]]:
    """A relay that can be killed."""
    settings = backend.settings.model_copy(update=changes)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.relay.relay_process", settings.model_dump_json(), backend.redis_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


async def fill(backend: Backend, rows: int) -> dict[str, list[int]]:
    """Rows of many channels; what each channel must get."""
    expected: dict[str, list[int]] = {f"chat:room-{number}": [] for number in range(ROOMS)}
    events = []
    for number in range(rows):
        channel = f"chat:room-{number % ROOMS}"
        expected[channel].append(number)
        events.append({"event_id": f"event-{number}", "channel": channel, "payload": str(number)})
    async with backend.database.session() as session:
        insert = text("INSERT INTO gateway_outbox (event_id, channel, payload) VALUES (:event_id, :channel, :payload)")
        await session.execute(insert, events)
    return expected


async def everything_arrives(backend: Backend, expected: dict[str, list[int]]) -> None:
    """Each channel has each of its publications once, in order; the table is empty."""
    total = sum(map(len, expected.values()))
    await wait_until(
        lambda: _published(backend, expected) >= total,
        "all publications are there",
        timeout_s=2 * DEADLINE_S,
    )
    while await backend.rows():  # bounded by the test's time-out
        await asyncio.sleep(0.01)
    assert {channel: backend.logged(channel) for channel in expected} == expected


@contextlib.asynccontextmanager
async def no_deletes(backend: Backend) -> AsyncIterator[None]:
    """Whoever wants to delete rows must wait; on PostgreSQL they can still be claimed."""
    async with backend.database.session() as session:  # on SQLite every session is the one writer
        if not backend.database.is_sqlite:
            await session.execute(text("LOCK TABLE gateway_outbox IN SHARE MODE"))
        yield


async def test_relay_killed_between_publish_and_delete_loses_and_doubles_nothing(backend: Backend) -> None:
    expected = await fill(backend, 3000)
    with relay_process(backend, lease_s=1.0, batch_rows=1000) as process:
        # Hold deletes up while there is a row that is published and still in the table: nobody can delete it then.
        published: set[int] = set()
        while True:
            before = len(published)
            await wait_until(lambda before=before: _published(backend, expected) > before, "more is published")
            async with no_deletes(backend):
                there = {int(row["payload"]) for row in await _rows_outside(backend)}
                published = {number for channel in expected for number in backend.logged(channel)}
                if there & published:
                    process.kill()
                    process.wait(DEADLINE_S)
                    break
            assert there, "the relay was never between the two"
    async with backend.relaying(lease_s=1.0) as relay:
        await everything_arrives(backend, expected)
        assert relay.report.counted.published > 0


def _published(backend: Backend, expected: dict[str, list[int]]) -> int:
    """Asked in one round trip: while it is under way the relays of this process stand still."""
    with backend.redis.pipeline(transaction=False) as pipeline:
        for channel in expected:
            pipeline.xlen(f"gw:log:{channel}")
        return sum(pipeline.execute())


async def _rows_outside(backend: Backend) -> list[dict[str, str]]:
    """The table as it is for somebody who only reads."""
    if backend.database.is_sqlite:
        import sqlite3

        path = backend.settings.url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return [{"payload": payload} for (payload,) in connection.execute("SELECT payload FROM gateway_outbox")]
    return [dict(row) for row in await backend.rows()]


async def test_redis_away_for_a_while_costs_nothing(backend: Backend, redis_server: RedisServer) -> None:
    """It falls silent, so that answers are lost behind publications that it has taken."""
    expected = await fill(backend, 2000)
    async with backend.relaying(attempts=1, batch_rows=100) as relay:
        await wait_until(lambda: relay.report.counted.published > 0, "the relay is at it")
        redis_server.freeze()
        try:
            await wait_until(lambda: relay.report.trouble.startswith("redis"), "the relay notices")
        finally:
            redis_server.thaw()
        await everything_arrives(backend, expected)
    assert relay.report.counted.dead == relay.report.counted.retried == 0


async def test_three_relays_share_the_work_and_keep_the_order(backend: Backend) -> None:
    expected = await fill(backend, 3000)
    async with (
        backend.relaying(batch_rows=50) as one,
        backend.relaying(batch_rows=50) as two,
        backend.relaying(batch_rows=50) as three,
    ):
        await everything_arrives(backend, expected)
        relays = (one, two, three)
        await wait_until(lambda: sum(each.report.counted.published for each in relays) == 3000, "all are counted once")
    assert sum(each.report.counted.published > 0 for each in relays) >= 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_claim_that_could_not_be_settled_is_made_again_at_once(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leases are this relay's own: it does not wait for their end."""
    expected = await fill(backend, 100)
    async with backend.relaying(lease_s=600) as relay:
        await everything_arrives(backend, expected)
        settle, failures = SqliteStore._settle, 2

        async def fail(store: SqliteStore, session: AsyncSession, claim: Claim) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise SqlUnavailable("database is locked")
            await settle(store, session, claim)

        monkeypatch.setattr(SqliteStore, "_settle", fail)
        await backend.say("chat:room-0", "more")
        expected["chat:room-0"].append("more")
        await everything_arrives(backend, expected)
    assert failures == 0
    assert relay.report.counted.interrupted == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_relay_ends_when_it_is_told_to_while_another_program_has_the_database(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.sql.PATIENCE_S", 0.01)
    monkeypatch.setattr("gateway.storage.sql.BUSY_TIMEOUT_MS", 1000)
    parts = backend.relay(lease_s=600)
    running = asyncio.create_task(parts.run())
    await backend.say("chat:a", 1)
    await wait_until(lambda: parts.report.counted.published == 1, "it relays")
    async with locked(backend.settings.url.removeprefix("sqlite:///")):
        await wait_until(lambda: parts.database.pool_status().checked_out > 1, "it wants to claim")
        running.cancel()
        await asyncio.wait([running], timeout=DEADLINE_S)
        assert running.cancelled()
    await parts.aclose()
    await backend._client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left of it"


async def test_relays_killed_again_and_again_lose_and_double_nothing(backend: Backend) -> None:
    expected = await fill(backend, 3000)
    total = sum(map(len, expected.values()))
    for _ in range(2):
        before = min(_published(backend, expected), total - 1)
        with relay_process(backend, lease_s=1.0, batch_rows=100):
            await wait_until(lambda before=before: _published(backend, expected) > before, "it does something")
    async with backend.relaying(lease_s=1.0):
        await everything_arrives(backend, expected)
    numbers = Counter(number for channel in expected for number in backend.logged(channel))
    assert set(numbers.values()) == {1}


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """One that may be taken away."""
    with postgres_server() as server:
        yield server


async def test_database_restarted_in_the_middle_costs_nothing(
    own_postgres: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    backend = Backend(Outbox(url=own_postgres.url, poll_interval_s=0.05, batch_rows=50), redis_server.url)
    try:
        await create(backend.database)
        expected = await fill(backend, 3000)
        async with backend.relaying(batch_rows=50) as relay:
            await wait_until(lambda: relay.report.counted.published > 0, "the relay is at it")
            own_postgres.stop()
            await wait_until(lambda: relay.report.trouble.startswith("database"), "the relay notices")
            with pytest.raises(SqlUnavailable):
                await backend.insert(outbox_event("chat:a", 1))
            own_postgres.start()
            await everything_arrives(backend, expected)
            # NOTIFY works again, too, or at least looking does.
            await backend.say("chat:after", "restart")
            await wait_until(lambda: backend.logged("chat:after") == ["restart"], "what is inserted later arrives")
    finally:
        await backend.aclose()
