"""Publishers that are given no more than a URL follow the rules that the gateway keeps in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis import Redis

from gateway.errors import BrokerRefused, PublisherClosed, PublishFailed, PublishInvalid
from gateway.publisher import AsyncPublisher, Publisher
from gateway.publisher import rules as module
from protocol.publish_rules import HistoryRule, PublishRules, encode_rules
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

Logged = Callable[[str], list[Any]]


def store(redis: Redis, *, version: int = 1, **namespaces: HistoryRule | None) -> None:
    rules = PublishRules(namespaces={"default": None, **namespaces}, publication_bytes=1000, channel_length=64)
    redis.hset("gw:rules", mapping={"rules": encode_rules(rules), "version": version})


@pytest.fixture
async def publisher(redis_server: RedisServer) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher(redis_server.url) as publisher:
        yield publisher


async def test_a_url_is_enough_to_publish_into_the_log(publisher: AsyncPublisher, redis: Redis, logged: Logged) -> None:
    store(redis, chat=HistoryRule(10, 60.0))
    position = await publisher.publish("chat:a", 1)
    assert position is not None
    assert position.offset == 1
    assert await publisher.publish("news", 2) is None
    assert logged("chat:a") == [1]


def test_threads_follow_them_as_well(redis_server: RedisServer, redis: Redis, logged: Logged) -> None:
    store(redis, chat=HistoryRule(10, 60.0))
    with Publisher(redis_server.url) as publisher:
        publisher.publish("chat:a", 1)
    assert logged("chat:a") == [1]


@pytest.mark.parametrize(
    ("channel", "data", "words"),
    [
        ("rooms:a", 1, 'no namespace "rooms" is configured'),
        ("news", "x" * 1000, "the gateway takes 1000"),
        ("c" * 65, 1, "64"),
    ],
)
async def test_what_the_gateway_refuses_is_refused(
    publisher: AsyncPublisher, redis: Redis, channel: str, data: object, words: str
) -> None:
    store(redis)
    with pytest.raises(PublishInvalid, match=words):
        await publisher.publish(channel, data)


async def test_a_gateway_that_starts_meanwhile_is_waited_for(
    publisher: AsyncPublisher, redis: Redis, logged: Logged
) -> None:
    waiting = asyncio.create_task(publisher.publish("chat:a", 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    store(redis, chat=HistoryRule(10, 60.0))
    await waiting
    assert logged("chat:a") == [1]


async def test_without_any_gateway_nothing_is_published_and_everybody_learns_why(
    redis_server: RedisServer, redis: Redis
) -> None:
    async with AsyncPublisher(redis_server.url, retry_for_s=0.2) as publisher:
        answers = await asyncio.gather(*(publisher.publish("news", 1) for _ in range(20)), return_exceptions=True)
        for answer in answers:
            assert isinstance(answer, PublishFailed)
            assert "no gateway has stored its rules" in str(answer)
        store(redis)
        assert await publisher.publish("news", 1) is None


async def test_rules_that_cannot_be_read_are_no_rules(redis_server: RedisServer, redis: Redis) -> None:
    redis.hset("gw:rules", mapping={"rules": b"oops", "version": 1})
    async with AsyncPublisher(redis_server.url, retry_for_s=0) as publisher:
        with pytest.raises(PublishFailed, match="not the rules of a gateway"):
            await publisher.publish("news", 1)
        redis.set("gw:rules", "of another type") if redis.delete("gw:rules") else None
        with pytest.raises(BrokerRefused, match="WRONGTYPE"):
            await publisher.publish("news", 1)


async def test_those_who_waited_go_on_in_the_order_of_their_calls(
    publisher: AsyncPublisher, redis: Redis, logged: Logged
) -> None:
    first = [asyncio.create_task(publisher.publish("chat:a", number)) for number in range(50)]
    await asyncio.sleep(0)
    store(redis, chat=HistoryRule(1000, 60.0))
    await first[0]
    later = [asyncio.create_task(publisher.publish("chat:a", number)) for number in range(50, 100)]
    first[7].cancel()
    await asyncio.gather(*first, *later, return_exceptions=True)
    found = logged("chat:a")
    assert found == sorted(found)
    assert set(found) >= set(range(100)) - {7}


async def test_changed_rules_are_followed(
    publisher: AsyncPublisher, redis: Redis, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH_S", 0.0)
    store(redis)
    with pytest.raises(PublishInvalid):
        await publisher.publish("chat:a", 0)
    store(redis, version=2, chat=HistoryRule(10, 60.0))

    async def taken() -> bool:
        try:
            return await publisher.publish("chat:a", 1) is not None
        except PublishInvalid:
            return False

    await eventually(taken, "the namespace is known")
    assert logged("chat:a") == [1]


async def test_rules_that_are_too_old_are_read_again_before_the_next_publication(
    publisher: AsyncPublisher, redis: Redis, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(redis, chat=None)
    assert await publisher.publish("chat:a", 0) is None
    monkeypatch.setattr(module, "MAX_AGE_S", 0.0)
    store(redis, version=2, chat=HistoryRule(10, 60.0))
    assert await publisher.publish("chat:a", 1) is not None
    assert logged("chat:a") == [1]


async def test_a_publisher_that_closes_leaves_nobody_waiting(redis_server: RedisServer) -> None:
    publisher = AsyncPublisher(redis_server.url)
    async with publisher:
        waiting = asyncio.create_task(publisher.publish("news", 1))
        await asyncio.sleep(0)
    with pytest.raises(PublisherClosed):
        await waiting
