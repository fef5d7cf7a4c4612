"""Entries of the Redis Stream are published once and in order, by one relay at a time, whoever of them dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis

from gateway.broker import Connection
from gateway.clock import SystemClock
from gateway.config import Outbox
from gateway.config import Redis as RedisSettings
from gateway.relay.wiring import IngestParts
from tests.relay.relay_process import RULES
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

SETTINGS = Outbox(ingest=True, lease_s=1.0, backoff_s=0.01, backoff_max_s=0.05)


@contextlib.asynccontextmanager
async def ingesting(server: RedisServer, **changes: Any) -> AsyncIterator[IngestParts]:
    client = Connection(RedisSettings(url=server.url))
    parts = IngestParts(SETTINGS.model_copy(update=changes), client, "gw", RULES, SystemClock())
    task = asyncio.get_running_loop().create_task(parts.run())
    try:
        yield parts
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    with contextlib.closing(Redis.from_url(redis_server.url)) as client:
        yield client


def add(redis: Redis, channel: str, data: object, **fields: str) -> None:
    redis.xadd("gw:ingest", {"channel": channel, "data": json.dumps(data), **fields})


def logged(redis: Redis, channel: str) -> list[Any]:
    entries: Any = redis.xrange(f"gw:log:{channel}")
    return [json.loads(fields[b"d"]) for _, fields in entries]


async def test_entries_are_published_in_order_and_leave_the_stream(redis_server: RedisServer, redis: Redis) -> None:
    for number in range(1200):
        add(redis, f"chat:{number % 3}", number)
    async with ingesting(redis_server):
        await wait_until(lambda: redis.xlen("gw:ingest") == 0, "all entries relayed")
        add(redis, "chat:0", "later")
        await wait_until(lambda: logged(redis, "chat:0")[-1] == "later", "a later one, too")
        await wait_until(lambda: redis.xpending("gw:ingest", "relay")["pending"] == 0, "nothing is left to acknowledge")
    for room in range(3):
        assert logged(redis, f"chat:{room}")[:400] == list(range(room, 1200, 3))
    assert redis.xpending("gw:ingest", "relay")["pending"] == 0


async def test_two_entries_with_one_key_are_one_publication(redis_server: RedisServer, redis: Redis) -> None:
    for _ in range(2):
        add(redis, "chat:a", "paid", key="order-7")
    async with ingesting(redis_server):
        await wait_until(lambda: redis.exists("gw:log:chat:a") and not redis.xlen("gw:ingest"), "both relayed")
    assert logged(redis, "chat:a") == ["paid"]


async def test_what_a_dead_consumer_had_is_taken_over_first(redis_server: RedisServer, redis: Redis) -> None:
    for number in range(5):
        add(redis, "chat:a", number)
    redis.xgroup_create("gw:ingest", "relay", id="0")
    redis.xreadgroup("relay", "dead", {"gw:ingest": ">"}, count=3)
    async with ingesting(redis_server):
        await wait_until(lambda: redis.xlen("gw:ingest") == 0, "all entries relayed")
    assert logged(redis, "chat:a") == list(range(5))


async def test_entries_that_cannot_be_published_go_to_a_bounded_dead_stream(
    redis_server: RedisServer, redis: Redis
) -> None:
    redis.xadd("gw:ingest", {"nonsense": "x"})
    redis.xadd("gw:ingest", {"channel": "chat:a", "data": b"\xff"})
    redis.xadd("gw:ingest", {"channel": "nowhere:a", "data": "1"})
    add(redis, "chat:a", "fine")
    async with ingesting(redis_server) as ingest:
        await wait_until(lambda: redis.xlen("gw:ingest") == 0, "all entries dealt with")
        await wait_until(lambda: ingest.report.counted.dead == 3, "they are counted")
    assert logged(redis, "chat:a") == ["fine"]
    dead: Any = redis.xrange("gw:ingest-dead")
    assert [b"reason" in fields for _, fields in dead] == [True, True, True]
    assert dead[0][1][b"nonsense"] == b"x"


async def test_an_entry_that_redis_refuses_holds_its_channel_only(redis_server: RedisServer, redis: Redis) -> None:
    redis.set("gw:meta:chat:broken", "not a hash")
    add(redis, "chat:broken", 1)
    add(redis, "chat:free", "free")
    async with ingesting(redis_server, attempts=1000) as ingest:
        await wait_until(lambda: ingest.report.counted.retried >= 2, "tried again")
        add(redis, "chat:broken", 2)
        add(redis, "chat:free", "too")
        await wait_until(lambda: logged(redis, "chat:free") == ["free", "too"], "the others go on")
        redis.delete("gw:meta:chat:broken")
        await wait_until(lambda: redis.xlen("gw:ingest") == 0, "all entries relayed")
    assert logged(redis, "chat:broken") == [1, 2]


async def test_one_of_two_relays_and_the_other_takes_its_place(redis_server: RedisServer, redis: Redis) -> None:
    async with ingesting(redis_server) as second:
        async with ingesting(redis_server) as first:
            await wait_until(lambda: first.report.active or second.report.active, "one relays")
            assert first.report.active != second.report.active
        add(redis, "chat:a", 1)
        await wait_until(lambda: redis.xlen("gw:ingest") == 0, "the one that is left relays")
    assert logged(redis, "chat:a") == [1]


async def test_a_stream_that_grows_too_long_loses_its_oldest_and_says_so(
    redis_server: RedisServer, redis: Redis
) -> None:
    redis.set("gw:meta:chat:broken", "not a hash")
    for number in range(1500):
        add(redis, "chat:broken", number)
    async with ingesting(redis_server, attempts=1000, ingest_max_entries=1000) as ingest:
        await wait_until(lambda: ingest.report.counted.dropped == 500, "the oldest are dropped")
        assert redis.xlen("gw:ingest") == 1000


async def test_redis_that_loses_everything_starts_a_new_stream(redis_server: RedisServer, redis: Redis) -> None:
    async with ingesting(redis_server) as ingest:
        await wait_until(lambda: ingest.report.active, "it relays")
        redis_server.kill()
        await wait_until(lambda: ingest.report.trouble, "it notices")
        redis_server.start()
        add(redis, "chat:a", "new")
        await wait_until(lambda: redis.exists("gw:log:chat:a"), "it relays again")
    assert logged(redis, "chat:a") == ["new"]
