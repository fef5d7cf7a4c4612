"""The reaper: streams whose producers have died end, whatever has ended is compacted, however many look after them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.broker import CommandQueue, StreamStore
from gateway.broker.streams import Life
from gateway.streams.reaper import AT_ONCE, Reaper
from gateway.streams.text import unpack

LIFE = Life(lease_ms=60_000, text_ms=60_000, remember_ms=600_000, max_bytes=1_000_000)


@pytest.fixture
async def store(redis: Redis) -> AsyncIterator[StreamStore]:
    queue = CommandQueue(redis)
    running = asyncio.create_task(queue.run())
    yield StreamStore(queue, queue, prefix="gw")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def begun(store: StreamStore, *keys: str, text: bytes = b"half a sen") -> None:
    for key in keys:
        await store.open(key, f"g-{key}", "ada", LIFE, "new")
        await store.append(key, f"g-{key}", 2, [text])


async def silence(redis: Redis, *keys: str) -> None:
    """Their producers have said nothing for longer than their leases."""
    for key in keys:
        await redis.hset(f"gw:stream:{key}", "alive_until", "1")  # type: ignore[misc]
        await redis.zadd("gw:streams", {key: 1})


async def due_now(redis: Redis) -> None:
    """As if time had passed for whatever waits to be compacted."""
    for key in await redis.zrange("gw:streams", 0, -1):
        await redis.zadd("gw:streams", {key: 1})


async def test_a_silent_producer_loses_its_stream_and_a_living_one_does_not(store: StreamStore, redis: Redis) -> None:
    await begun(store, "dead", "alive")
    await silence(redis, "dead")
    await redis.zadd("gw:streams", {"alive": 1})  # due by mistake: its lease says otherwise
    assert await Reaper(store).look() == 2
    dead, alive = await store.read("dead"), await store.read("alive")
    assert dead is not None
    assert alive is not None
    assert (dead.status, b'"code":"producer_lost"' in dead.terminal) == ("failed", True)
    assert alive.status == "active"
    assert unpack(dead.compacted) == b"half a sen"
    assert await Reaper(store).look() == 0


async def test_what_somebody_else_has_ended_becomes_one_compressed_value(store: StreamStore, redis: Redis) -> None:
    text = b"the same again and again. " * 500
    await begun(store, "a", text=text)
    await store.cancel("a")
    before = await redis.memory_usage("gw:stream-parts:a")
    assert await Reaper(store).look() == 0  # not at once: those who watch may want the last records
    await due_now(redis)
    await Reaper(store).look()
    stored = await store.read("a")
    assert stored is not None
    assert (unpack(stored.compacted), stored.parts) == (text, [])
    assert await redis.memory_usage("gw:stream-text:a") * 10 < before
    assert await redis.zcard("gw:streams") == 0


async def test_several_reapers_end_each_stream_once(store: StreamStore, redis: Redis) -> None:
    keys = [f"k{number}" for number in range(20)]
    await begun(store, *keys)
    await silence(redis, *keys)
    heard = redis.pubsub()
    await heard.psubscribe("gw:pub:stream:*")
    await heard.get_message(timeout=5)
    await asyncio.gather(*(Reaper(store).look() for _ in range(4)))
    ends = []
    while (message := await heard.get_message(ignore_subscribe_messages=True, timeout=0.2)) is not None:
        ends.append(message["channel"].decode())
    await heard.aclose()  # type: ignore[no-untyped-call]
    assert sorted(ends) == sorted(f"gw:pub:stream:{key}" for key in keys)


async def test_more_than_it_takes_at_once_is_done_without_a_pause(store: StreamStore, redis: Redis) -> None:
    keys = [f"k{number}" for number in range(AT_ONCE + 30)]
    await begun(store, *keys)
    await silence(redis, *keys)
    running = asyncio.create_task(Reaper(store, interval_s=3600).run())
    while await redis.zcard("gw:streams"):
        assert not running.done()
        await asyncio.sleep(0.01)
    running.cancel()


async def test_a_stream_that_is_gone_or_unreadable_holds_up_nobody(store: StreamStore, redis: Redis) -> None:
    await redis.zadd("gw:streams", {"gone": 1})
    await begun(store, "expired", "fine")
    await store.cancel("expired")
    await store.cancel("fine")
    await redis.delete("gw:stream-parts:expired")
    await due_now(redis)
    await Reaper(store).look()
    fine = await store.read("fine")
    assert fine is not None
    assert fine.compacted
    assert await redis.zcard("gw:streams") == 0
