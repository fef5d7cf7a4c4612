"""What a publisher makes of a network and a Redis that fail: each message once, in order, or an error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from gateway.broker.log import ChannelLog
from gateway.publisher import AsyncPublisher, History, Message, PublishFailed
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

Logged = Callable[[str], list[Any]]


async def test_a_lost_answer_doubles_nothing(far: AsyncPublisher, lossy: LossyProxy, logged: Logged) -> None:
    await far.publish("chat:lobby", 0)
    lossy.answers_to_lose = 1
    position = await far.publish("chat:lobby", 1)
    assert lossy.broken == 1
    assert position is not None
    assert position.offset == 2
    assert logged("chat:lobby") == [0, 1]


async def test_several_lost_answers_in_a_row_double_nothing(
    far: AsyncPublisher, lossy: LossyProxy, logged: Logged
) -> None:
    await far.publish("chat:other", 0)
    lossy.answers_to_lose = 4
    positions = await asyncio.gather(*(far.publish("chat:lobby", number) for number in range(600)))
    assert lossy.broken == 4
    assert [position.offset for position in positions if position] == list(range(1, 601))
    assert logged("chat:lobby") == list(range(600))


async def test_a_request_that_is_cut_anywhere_is_finished_in_order(
    far: AsyncPublisher, lossy: LossyProxy, logged: Logged
) -> None:
    seed = random.Random(7)
    lossy.cuts = [seed.randrange(1, 60_000) for _ in range(10)]
    positions = await far.publish_many(Message(channel="chat:lobby", data=number) for number in range(3000))
    assert lossy.cuts == []
    assert [position.offset for position in positions if position] == list(range(1, 3001))
    assert logged("chat:lobby") == list(range(3000))


async def test_versions_survive_a_retry(far: AsyncPublisher, lossy: LossyProxy, logged: Logged) -> None:
    await far.publish("chat:score", "0:0", version=1)
    lossy.answers_to_lose = 1
    position = await far.publish("chat:score", "1:0", version=2)
    assert position is not None
    assert position.offset == 2
    assert logged("chat:score") == ["0:0", "1:0"]


async def test_without_history_a_lost_answer_is_an_error_and_nothing_is_sent_twice(
    far: AsyncPublisher, lossy: LossyProxy, redis: Redis
) -> None:
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("gw:pub:chat:lobby")
        pubsub.get_message(timeout=5)
        lossy.answers_to_lose = 1
        with pytest.raises(PublishFailed) as caught:
            await far.publish("chat:lobby", 1, history=None)
        assert caught.value.attempts == 1
        await far.publish("chat:lobby", 2, history=None)
        messages: list[Any] = [pubsub.get_message(timeout=5) for _ in range(2)]
    assert [message["data"].rpartition(b"\n")[2] for message in messages] == [b"1", b"2"]


async def test_connections_that_are_killed_all_the_time_lose_and_double_nothing(
    publisher: AsyncPublisher, redis: Redis, logged: Logged
) -> None:
    async def work(coroutine: int) -> None:
        for number in range(100):
            await publisher.publish("chat:lobby", [coroutine, number])

    working = asyncio.gather(*map(work, range(20)))
    kills = 0
    while not working.done():
        kills += int(
            await asyncio.to_thread(redis.execute_command, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        )
        await asyncio.sleep(0.01)
    await working
    assert kills
    data = logged("chat:lobby")
    assert len(data) == 2000
    for coroutine in range(20):
        assert [number for who, number in data if who == coroutine] == list(range(100))


async def test_a_redis_that_comes_back_in_time_gets_everything(
    publisher: AsyncPublisher, redis_server: RedisServer, redis: Redis, logged: Logged
) -> None:
    await publisher.publish("chat:lobby", "before")
    redis_server.kill()
    tasks = [asyncio.create_task(publisher.publish("chat:lobby", number)) for number in range(100)]
    await asyncio.sleep(0)
    await asyncio.to_thread(redis_server.start)
    await asyncio.gather(*tasks)
    assert logged("chat:lobby") == list(range(100))  # it came back empty


async def test_a_redis_that_falls_silent_in_the_middle_doubles_nothing(
    publisher: AsyncPublisher, redis_server: RedisServer, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of the first attempt are in a socket that Redis reads when it is back, beside the second's."""
    sent: list[str] = []
    append = ChannelLog.append

    def counted(log: ChannelLog, channel: str, *arguments: Any, **options: Any) -> Any:
        sent.append(channel)
        return append(log, channel, *arguments, **options)

    monkeypatch.setattr(ChannelLog, "append", counted)
    await publisher.publish("chat:lobby", 0)
    redis_server.freeze()
    tasks = [asyncio.create_task(publisher.publish("chat:lobby", number)) for number in range(1, 400)]
    try:
        await wait_until(lambda: len(sent) > 400, "the second attempt")
    finally:
        redis_server.thaw()
    await asyncio.gather(*tasks)
    assert logged("chat:lobby") == list(range(400))


async def test_when_redis_stays_away_calls_fail_after_their_time(redis_server: RedisServer) -> None:
    namespaces = {"chat": History(10, 60), "default": None}
    async with AsyncPublisher(redis_server.url, namespaces=namespaces, retry_for_s=0.3) as publisher:
        await publisher.publish("chat:lobby", 1)
        redis_server.kill()
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = await asyncio.gather(
            *(publisher.publish("chat:lobby", number) for number in range(5)), return_exceptions=True
        )
        assert 0.3 <= loop.time() - began < 5
        assert all(isinstance(answer, PublishFailed) and answer.attempts > 1 for answer in answers)
        with pytest.raises(PublishFailed):
            await publisher.publish("news", 1)
        with pytest.raises(PublishFailed):
            await publisher.publish_many(Message(channel="chat:lobby", data=number) for number in range(3000))
        await asyncio.to_thread(redis_server.start)
        position = await publisher.publish("chat:lobby", 2)
        assert position is not None
        assert position.offset == 1


async def test_after_a_failed_call_the_same_call_with_its_key_is_safe(
    lossy: LossyProxy, redis: Redis, logged: Logged
) -> None:
    async with AsyncPublisher(lossy.url, namespaces={"chat": History(10, 60)}, retry_for_s=0) as publisher:
        await publisher.publish("chat:lobby", 0)  # Redis knows the script now
        lossy.answers_to_lose = 1
        with pytest.raises(PublishFailed):
            await publisher.publish("chat:lobby", 1, key="k")
        await wait_until(lambda: logged("chat:lobby") == [0, 1], "Redis has it all the same")
        position = await publisher.publish("chat:lobby", 1, key="k")
    assert position is not None
    assert position.offset == 2
    assert logged("chat:lobby") == [0, 1]


async def test_a_publisher_that_is_left_while_redis_is_away_ends(redis_server: RedisServer) -> None:
    redis_server.kill()
    async with AsyncPublisher(redis_server.url, namespaces={"chat": History(10, 60)}, retry_for_s=0.1) as publisher:
        task = asyncio.create_task(publisher.publish("chat:lobby", 1))
        await asyncio.sleep(0)
    with pytest.raises(PublishFailed):
        await task
