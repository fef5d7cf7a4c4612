"""The script for channels without history: each key once; the key is known for a time, and leaves no log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from gateway.broker import ChannelLog, CommandQueue
from gateway.broker.scripts import source
from gateway.errors import BrokerRefused
from protocol.redis_contract import done_key, publish_channel

REMEMBER_S = 600.0
KEY = done_key("gw", "order-7", "news")


@pytest.fixture
async def log(redis: Redis) -> AsyncIterator[ChannelLog]:
    queue = CommandQueue(redis)
    running = asyncio.create_task(queue.run())
    yield ChannelLog(queue, queue, prefix="gw")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.fixture
async def listener(redis: Redis) -> AsyncIterator[PubSub]:
    """Hears what is published on the channels `news` and `other`."""
    async with redis.pubsub(ignore_subscribe_messages=True) as listener:
        await listener.subscribe(publish_channel("gw", "news"), publish_channel("gw", "other"), "end")
        yield listener


async def heard(listener: PubSub, redis: Redis) -> list[tuple[bytes, bytes]]:
    """Channels and payloads of everything that was published until now."""
    await redis.publish("end", "")
    found: list[tuple[bytes, bytes]] = []
    async with asyncio.timeout(20):
        async for message in listener.listen():
            if message["channel"] == b"end":
                return found
            if message["type"] == "message":
                found.append((message["channel"], message["data"]))
    raise AssertionError("the listener has ended")


async def test_a_key_is_delivered_once_on_each_channel(log: ChannelLog, listener: PubSub, redis: Redis) -> None:
    answers = [
        await log.pass_on_once(channel, payload, key=key, remember_s=REMEMBER_S)
        for channel, payload, key in (
            ("news", b"1", "order-7"),
            ("news", b"2", "order-7"),
            ("news", b"3", "order-8"),
            ("other", b"4", "order-7"),
        )
    ]
    assert answers == [True, False, True, True]
    news, other = publish_channel("gw", "news"), publish_channel("gw", "other")
    assert await heard(listener, redis) == [(news, b"1"), (news, b"3"), (other, b"4")]


async def test_of_many_at_the_same_moment_one_is_delivered(listener: PubSub, redis: Redis, redis_server: Any) -> None:
    clients = [Redis.from_url(redis_server.url) for _ in range(5)]
    arguments = (1, KEY, publish_channel("gw", "news"), b"x", 60_000)
    answers = await asyncio.gather(*(each.eval(source("publish_once"), *arguments) for each in clients * 10))
    for client in clients:
        await client.aclose()
    assert sorted(answers) == [0] * 49 + [1]
    assert len(await heard(listener, redis)) == 1


async def test_the_key_lives_as_long_as_it_was_told_from_its_first_use_on(log: ChannelLog, redis: Redis) -> None:
    await log.pass_on_once("news", b"1", key="order-7", remember_s=REMEMBER_S)
    assert 0 < await redis.pttl(KEY) <= REMEMBER_S * 1000
    await log.pass_on_once("news", b"1", key="order-7", remember_s=10 * REMEMBER_S)
    assert 0 < await redis.pttl(KEY) <= REMEMBER_S * 1000
    await log.remember("news", "order-7", 10 * REMEMBER_S)
    assert await redis.pttl(KEY) > REMEMBER_S * 1000


async def test_a_key_whose_time_is_over_is_delivered_again(log: ChannelLog, listener: PubSub, redis: Redis) -> None:
    assert await log.pass_on_once("news", b"1", key="order-7", remember_s=REMEMBER_S)
    await log.remember("news", "order-7", 0)
    assert await redis.exists(KEY) == 0
    assert await log.pass_on_once("news", b"2", key="order-7", remember_s=REMEMBER_S)
    assert [payload for _, payload in await heard(listener, redis)] == [b"1", b"2"]


async def test_nothing_but_the_key_is_kept(log: ChannelLog, redis: Redis) -> None:
    await log.pass_on_once("news", b"x" * 10_000, key="order-7", remember_s=REMEMBER_S)
    assert await redis.keys() == [KEY]
    assert await redis.get(KEY) == b"0 -"


async def test_a_key_is_known_to_publishing_with_history_too(log: ChannelLog, listener: PubSub, redis: Redis) -> None:
    """The namespace may get a history between two attempts: clients still get the event once."""
    await log.pass_on_once("news", b"1", key="order-7", remember_s=REMEMBER_S)
    again = await log.append("news", b"1", {}, size=10, ttl_s=60, key="order-7")
    assert not again.fresh
    await log.append("other", b"2", {}, size=10, ttl_s=60, key="order-7")
    assert not await log.pass_on_once("other", b"2", key="order-7", remember_s=REMEMBER_S)
    assert len(await heard(listener, redis)) == 2
    assert await redis.keys(b"gw:log:news") == []


async def test_names_with_braces_are_published_to_their_shard(redis: Redis) -> None:
    if int((await redis.info("server"))["redis_version"].split(".")[0]) < 7:
        pytest.skip("Redis before 7 has no sharded pub/sub")
    async with redis.pubsub(ignore_subscribe_messages=True) as listener:
        await listener.execute_command("SSUBSCRIBE", "gw:pub:{news}")
        assert (await listener.parse_response())[0] == b"ssubscribe"
        for _ in range(2):
            await redis.eval(source("publish_once"), 1, "gw:done:{news}:a", "gw:pub:{news}", b"1", 60_000)
        await redis.spublish("gw:pub:{news}", "end")
        found = [await listener.parse_response() for _ in range(2)]
    assert [message[-1] for message in found] == [b"1", b"end"]


@pytest.mark.parametrize("life", [0, -1, 2**80])
async def test_without_a_life_for_the_key_nothing_is_delivered(
    log: ChannelLog, listener: PubSub, redis: Redis, life: int
) -> None:
    with pytest.raises(BrokerRefused):
        await log.pass_on_once("news", b"1", key="order-7", remember_s=life)
    assert await redis.keys() == []
    assert await heard(listener, redis) == []


async def test_a_redis_that_has_lost_its_scripts_gets_the_script_again(
    log: ChannelLog, listener: PubSub, redis: Redis
) -> None:
    await log.pass_on_once("news", b"1", key="order-7", remember_s=REMEMBER_S)
    await redis.script_flush()
    assert await log.pass_on_once("news", b"2", key="order-8", remember_s=REMEMBER_S)
    assert [payload for _, payload in await heard(listener, redis)] == [b"1", b"2"]
