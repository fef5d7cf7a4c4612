"""Events of clients and leases of workers, in a real Redis. Leases run out by moving their ends, not by waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.broker import CommandQueue, LifecycleEvent, LifecycleStore
from gateway.broker.lifecycle import REAPED_AT_ONCE
from gateway.config import Redis as RedisSettings
from gateway.storage.redis import connect
from tests.support.redis_server import RedisServer

LEASE_S = 60.0


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[LifecycleStore]:
    client = connect(RedisSettings(url=redis_server.url))
    commands = CommandQueue(client)
    running = asyncio.create_task(commands.run())
    yield LifecycleStore(commands, prefix="gw", stream="gw:events", kept=10_000, lease_s=LEASE_S, node="n1")
    running.cancel()
    await client.aclose()


async def entries(redis: Redis) -> list[dict[str, str]]:
    return [
        {key.decode(): value.decode() for key, value in fields.items()} for _, fields in await redis.xrange("gw:events")
    ]


async def told(redis: Redis) -> list[tuple[str, str]]:
    return [(entry["event"], entry["client"]) for entry in await entries(redis)]


def connected(*clients: str, start: int = 1) -> list[LifecycleEvent]:
    return [LifecycleEvent(n, "connected", client, f"user-{client}", 1000) for n, client in enumerate(clients, start)]


async def expire(redis: Redis, worker: str) -> None:
    """Its lease has run out a moment ago."""
    await redis.zadd("gw:workers", {worker: 5})


async def test_events_are_written_in_order_with_all_that_is_known(store: LifecycleStore, redis: Redis) -> None:
    await store.begin("w1")
    events = [
        *connected("c1"),
        LifecycleEvent(2, "subscribed", "c1", "ada", 1001, channel="news"),
        LifecycleEvent(3, "unsubscribed", "c1", "ada", 1002, channel="news"),
        LifecycleEvent(4, "disconnected", "c1", "ada", 1003, reason="slow"),
    ]
    assert await store.append("w1", events)
    base = {"client": "c1", "user": "ada", "node": "n1"}
    assert await entries(redis) == [
        base | {"id": "w1-1", "event": "connected", "user": "user-c1", "time": "1000"},
        base | {"id": "w1-2", "event": "subscribed", "channel": "news", "time": "1001"},
        base | {"id": "w1-3", "event": "unsubscribed", "channel": "news", "time": "1002"},
        base | {"id": "w1-4", "event": "disconnected", "reason": "slow", "time": "1003"},
    ]


async def test_events_that_are_sent_again_are_left_out(store: LifecycleStore, redis: Redis) -> None:
    await store.begin("w1")
    assert await store.append("w1", connected("a", "b"))
    assert await store.append("w1", connected("a", "b", "c"))
    assert await store.append("w1", connected("a"))
    assert await told(redis) == [("connected", "a"), ("connected", "b"), ("connected", "c")]


async def test_without_a_lease_nothing_is_written(store: LifecycleStore, redis: Redis) -> None:
    assert not await store.append("w1", connected("a"))
    assert await store.renew("w1") == (False, [])
    assert await redis.keys("*") == []


async def test_a_dead_worker_is_found_and_reaped_once_by_however_many(store: LifecycleStore, redis: Redis) -> None:
    clients = [f"c{n}" for n in range(REAPED_AT_ONCE * 3 + 7)]
    for worker in ("dead", "w1", "w2"):
        await store.begin(worker)
    for start in range(0, len(clients), 500):
        assert await store.append("dead", connected(*clients[start : start + 500], start=start + 1))
    await store.append(
        "dead", [LifecycleEvent(len(clients) + 1, "disconnected", "c0", "user-c0", 2000, reason="by itself")]
    )
    assert await store.renew("w1") == (True, [])
    await expire(redis, "dead")
    assert await store.renew("w1") == (True, ["dead"])
    assert await store.renew("w2") == (True, ["dead"])

    async def reap() -> int:
        count = 0
        while True:
            reaped = await store.reap("dead", 3000)
            count += reaped.clients
            if reaped.done:
                return count

    counts = await asyncio.gather(reap(), reap(), reap())
    assert sum(counts) == len(clients) - 1
    gone = [entry for entry in await entries(redis) if entry["event"] == "disconnected"]
    assert sorted(entry["client"] for entry in gone) == sorted(clients)
    assert gone[0] | {"id": ""} == {
        "id": "",
        "event": "disconnected",
        "client": "c0",
        "user": "user-c0",
        "node": "n1",
        "time": "2000",
        "reason": "by itself",
    }
    assert {entry["reason"] for entry in gone[1:]} == {"lost"}
    assert all(entry["id"] == f"dead-gone-{entry['client']}" for entry in gone[1:])
    assert await redis.exists("gw:clients:dead") == 0
    assert await store.renew("w1") == (True, [])


async def test_a_worker_that_is_being_reaped_can_do_nothing_more(store: LifecycleStore, redis: Redis) -> None:
    await store.begin("w1")
    clients = [f"c{n}" for n in range(2 * REAPED_AT_ONCE)]
    await store.append("w1", connected(*clients))
    await expire(redis, "w1")
    assert not (await store.reap("w1", 3000)).done
    assert not await store.append("w1", connected("new", start=len(clients) + 1))
    assert (await store.renew("w1")).has_lease is False
    while not (await store.reap("w1", 3000)).done:
        pass
    assert len([event for event, _ in await told(redis) if event == "disconnected"]) == len(clients)


async def test_a_worker_that_lives_is_not_reaped(store: LifecycleStore, redis: Redis) -> None:
    await store.begin("w1")
    await store.append("w1", connected("a"))
    assert await store.reap("w1", 3000) == (0, True)
    assert await told(redis) == [("connected", "a")]
    assert await store.append("w1", connected("b", start=2))


async def test_after_redis_was_away_the_first_worker_does_not_end_the_others(
    store: LifecycleStore, redis: Redis
) -> None:
    for worker in ("w1", "w2"):
        await store.begin(worker)
        await expire(redis, worker)
    assert await store.renew("w1") == (True, []), "nobody has renewed: all of them are given time"
    assert await store.renew("w2") == (True, [])
    await store.begin("w3")
    await expire(redis, "w3")
    assert await store.renew("w1") == (True, [])
    await redis.zadd("gw:workers", {"": -1})  # the time that was given is over
    assert await store.renew("w1") == (True, ["w3"])


async def test_a_worker_that_ends_tells_of_who_is_left(store: LifecycleStore, redis: Redis) -> None:
    await store.begin("w1")
    await store.append("w1", connected("a", "b"))
    assert await store.end("w1", 3000) == (2, True)
    assert sorted(await told(redis))[-2:] == [("disconnected", "a"), ("disconnected", "b")]
    assert await redis.keys("gw:clients:*") == []
    assert await redis.zcard("gw:workers") == 0


async def test_the_stream_is_bounded(redis_server: RedisServer, redis: Redis) -> None:
    client = connect(RedisSettings(url=redis_server.url))
    commands = CommandQueue(client)
    running = asyncio.create_task(commands.run())
    store = LifecycleStore(commands, prefix="gw", stream="gw:events", kept=1000, lease_s=LEASE_S, node="n1")
    await store.begin("w1")
    for start in range(0, 5000, 500):
        await store.append("w1", connected(*(f"c{n}" for n in range(500)), start=start + 1))
    assert await redis.xlen("gw:events") < 1500
    running.cancel()
    await client.aclose()


async def test_what_nobody_comes_for_is_forgotten_one_day(store: LifecycleStore, redis: Redis) -> None:
    await store.begin("w1")
    await store.renew("w1")
    for key in ("gw:clients:w1", "gw:workers"):
        assert 6 * 86400 < await redis.ttl(key) <= 7 * 86400
