"""`AsyncPublisher` on a real Redis that does what it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.errors import ConfigError
from gateway.publisher import (
    AsyncPublisher,
    BrokerRefused,
    History,
    Message,
    Position,
    PublisherClosed,
    PublishInvalid,
    RawJSON,
)
from protocol.redis_contract import decode_payload
from tests.support.redis_server import RedisServer

Logged = Callable[[str], list[Any]]


async def test_with_history_a_publication_has_a_position_and_is_in_the_log(
    publisher: AsyncPublisher, logged: Logged
) -> None:
    first = await publisher.publish("chat:lobby", {"n": 1})
    second = await publisher.publish("chat:lobby", {"n": 2})
    assert first is not None
    assert first.epoch
    assert (first.offset, second) == (1, Position(offset=2, epoch=first.epoch))
    assert logged("chat:lobby") == [{"n": 1}, {"n": 2}]


async def test_subscribers_of_redis_get_what_is_published(publisher: AsyncPublisher, redis: Redis) -> None:
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("gw:pub:news", "gw:pub:chat:lobby")
        pubsub.get_message(timeout=5)
        pubsub.get_message(timeout=5)
        assert await publisher.publish("news", {"n": 1}) is None
        assert await publisher.publish("news", RawJSON(b"[1.50]"), tags={"kind": "x"}) is None
        position = await publisher.publish("chat:lobby", "hello", tags={"kind": "y"})
        messages: list[Any] = [pubsub.get_message(timeout=5) for _ in range(3)]
    bare, tagged, in_log = (decode_payload(message["data"]) for message in messages)
    assert messages[0]["data"] == b'{"n":1}'
    assert bare.position is None
    assert (bytes(tagged.publication.data), tagged.publication.tags) == (b"[1.50]", {"kind": "x"})
    assert (bytes(in_log.publication.data), in_log.publication.tags) == (b'"hello"', {"kind": "y"})
    assert in_log.position == position


async def test_a_known_key_publishes_nothing_and_answers_with_the_first_position(
    publisher: AsyncPublisher, logged: Logged
) -> None:
    first = await publisher.publish("chat:lobby", 1, key="payment-7")
    await publisher.publish("chat:lobby", 2)
    assert await publisher.publish("chat:lobby", 3, key="payment-7") == first
    assert logged("chat:lobby") == [1, 2]


async def test_a_key_is_known_to_its_channel_only(publisher: AsyncPublisher, logged: Logged) -> None:
    await publisher.publish("chat:a", 1, key="payment-7")
    await publisher.publish("chat:b", 2, key="payment-7")
    assert (logged("chat:a"), logged("chat:b")) == ([1], [2])


async def test_only_newer_versions_are_taken(publisher: AsyncPublisher, logged: Logged) -> None:
    for version in (1, 3, 2, 3, 4):
        await publisher.publish("chat:score", version, version=version)
    await publisher.publish("chat:score", "new life", version=1, version_epoch="b")
    assert logged("chat:score") == [1, 3, 4, "new life"]


async def test_history_can_be_given_and_bypassed_for_one_publication(
    publisher: AsyncPublisher, redis: Redis, logged: Logged
) -> None:
    assert await publisher.publish("news", 1, history=History(2, 60)) is not None
    assert await publisher.publish("chat:lobby", 1, history=None) is None
    assert logged("news") == [1]
    assert logged("chat:lobby") == []


async def test_the_log_keeps_the_newest(redis_server: RedisServer, redis: Redis) -> None:
    async with AsyncPublisher(redis_server.url, namespaces={"chat": History(2, 60)}) as publisher:
        await publisher.publish_many(Message(channel="chat:lobby", data=number) for number in range(5))
    assert [name for name, _ in redis.xrange("gw:log:chat:lobby")] == [b"4-0", b"5-0"]


async def test_fifty_coroutines_share_round_trips_and_each_keeps_its_order(
    publisher: AsyncPublisher, redis: Redis, logged: Logged
) -> None:
    await publisher.publish("chat:warm", 0)

    async def work(coroutine: int) -> None:
        for number in range(200):
            await publisher.publish("chat:lobby", [coroutine, number])

    await asyncio.gather(*map(work, range(50)))
    data = logged("chat:lobby")
    assert len(data) == 10_000
    for coroutine in range(50):
        assert [number for who, number in data if who == coroutine] == list(range(200))
    clients: Any = redis.client_list()
    assert len(clients) == 2, "the publisher uses one connection"


async def test_calls_at_the_same_time_are_published_in_their_order(publisher: AsyncPublisher, logged: Logged) -> None:
    positions = await asyncio.gather(*(publisher.publish("chat:lobby", number) for number in range(2000)))
    assert [position.offset for position in positions if position] == list(range(1, 2001))
    assert logged("chat:lobby") == list(range(2000))


async def test_many_are_published_in_order_and_more_than_may_wait(publisher: AsyncPublisher, logged: Logged) -> None:
    positions = await publisher.publish_many(Message(channel="chat:lobby", data=number) for number in range(12_000))
    assert [position.offset for position in positions if position] == list(range(1, 12_001))
    assert logged("chat:lobby") == list(range(12_000))
    assert await publisher.publish_many([]) == []


async def test_of_many_none_is_sent_when_one_is_invalid(publisher: AsyncPublisher, logged: Logged) -> None:
    messages = [Message(channel="chat:lobby", data=1), Message(channel="chat:lobby", data=object())]
    with pytest.raises(PublishInvalid, match=r"^messages\[1\]\.data: "):
        await publisher.publish_many(messages)
    assert logged("chat:lobby") == []


async def test_a_script_flush_is_not_noticed(publisher: AsyncPublisher, redis: Redis, logged: Logged) -> None:
    for number in range(10):
        await asyncio.gather(*(publisher.publish("chat:lobby", [number, part]) for part in range(20)))
        redis.script_flush()
        redis.function_flush()
    assert logged("chat:lobby") == [[number, part] for number in range(10) for part in range(20)]


async def test_what_redis_refuses_raises_and_is_not_tried_again(
    publisher: AsyncPublisher, redis: Redis, logged: Logged
) -> None:
    await publisher.publish("chat:broken", 0)
    redis.set("gw:log:chat:broken", "not a stream")
    with pytest.raises(BrokerRefused, match="wrong kind of value"):
        await publisher.publish("chat:broken", 1)
    await publisher.publish("chat:lobby", 1)
    assert logged("chat:lobby") == [1]


async def test_what_is_under_way_is_finished_before_it_closes(redis_server: RedisServer, logged: Logged) -> None:
    async with AsyncPublisher(redis_server.url, namespaces={"chat": History(1000, 60)}) as publisher:
        tasks = [asyncio.create_task(publisher.publish("chat:lobby", number)) for number in range(700)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert logged("chat:lobby") == list(range(700))


async def test_it_works_inside_async_with_only_and_any_number_of_times(redis_server: RedisServer) -> None:
    publisher = AsyncPublisher(redis_server.url, namespaces={"default": None})
    for _ in range(2):
        with pytest.raises(PublisherClosed):
            await publisher.publish("news", 1)
        async with publisher:
            await publisher.publish("news", 1)
            with pytest.raises(PublisherClosed):
                await publisher.__aenter__()


async def test_a_cancelled_call_harms_no_other(publisher: AsyncPublisher, logged: Logged) -> None:
    tasks = [asyncio.create_task(publisher.publish("chat:lobby", number)) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert logged("chat:lobby") == list(range(1, 100, 2))


@pytest.mark.parametrize(
    ("url", "field"), [("", "url"), ("http://:secret@localhost", "url"), ("redis://localhost", "prefix")]
)
def test_options_that_cannot_be_are_named_without_secrets(url: str, field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: ") as caught:
        AsyncPublisher(url, prefix="a b" if field == "prefix" else "gw")
    assert "secret" not in str(caught.value)


async def test_with_the_gateways_configuration_it_agrees_with_the_gateway(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        """
        [redis]
        prefix = "mine"
        [limits]
        publication_bytes = 1024
        [namespaces.chat]
        history_size = 5
        history_ttl_s = 60
        [namespaces.plain]
        """
    )
    monkeypatch.setenv("GATEWAY_REDIS__URL", redis_server.url)
    async with AsyncPublisher.from_config(file) as publisher:
        assert await publisher.publish("chat:lobby", 1) is not None
        assert await publisher.publish("plain:x", 1) is None
        assert await publisher.publish("news", 1) is None
        with pytest.raises(PublishInvalid, match="no namespace"):
            await publisher.publish("other:x", 1)
        with pytest.raises(PublishInvalid, match="takes 1024"):
            await publisher.publish("news", "x" * 1024)
    assert redis.exists("mine:log:chat:lobby") == 1


def test_a_configuration_with_problems_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        AsyncPublisher.from_config(tmp_path / "nowhere.toml")
