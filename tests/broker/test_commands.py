"""Publishing for clients: order, batches, bounds, and Redis that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from gateway.broker import CommandQueue, commands
from gateway.config import Redis as RedisSettings
from gateway.errors import BrokerBusy, BrokerError, BrokerRefused, BrokerUnavailable
from gateway.storage.redis import connect
from tests.support.redis_server import RedisServer
from tests.support.subscriber import SubscriberWorld


class Queue:
    """A publish queue on a real Redis, that runs when it is started."""

    def __init__(self, url: str) -> None:
        self.client = connect(RedisSettings(url=url))
        self.round_trips: list[float] = []
        self.queue = CommandQueue(self.client, round_trip=self.round_trips.append)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.queue.run())

    def publish(self, channel: str, payload: bytes) -> asyncio.Future[int]:
        return self.queue.publish(channel.encode(), payload)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.aclose()


@pytest.fixture
async def queue(redis_server: RedisServer) -> AsyncIterator[Queue]:
    queue = Queue(redis_server.url)
    yield queue
    await queue.stop()


async def outcome(done: asyncio.Future[int]) -> int | type[BrokerError]:
    try:
        async with asyncio.timeout(20):
            return await done
    except BrokerError as error:
        return type(error)


async def test_a_publication_is_answered_with_the_number_of_redis_subscribers(
    queue: Queue, connected: SubscriberWorld
) -> None:
    queue.start()
    await connected.subscribed(b"a")
    assert await outcome(queue.publish("a", b"1")) == 1
    assert await outcome(queue.publish("nobody", b"1")) == 0
    await connected.received((b"a", b"1"))


async def test_publications_keep_their_order_over_many_batches(queue: Queue, connected: SubscriberWorld) -> None:
    queue.start()
    await connected.subscribed(b"a", b"b")
    count = 3 * commands.BATCH + 7
    futures = [queue.publish("ab"[number % 2], b"%d" % number) for number in range(count)]
    await asyncio.gather(*futures)
    await connected.received(*((b"ab"[number % 2 : number % 2 + 1], b"%d" % number) for number in range(count)))


async def test_what_arrives_while_redis_answers_leaves_in_one_round_trip(queue: Queue, redis: Redis) -> None:
    futures = [queue.publish("a", b"1") for _ in range(100)]
    before = (await redis.info("stats"))["total_reads_processed"]
    queue.start()
    await asyncio.gather(*futures)
    reads = (await redis.info("stats"))["total_reads_processed"] - before
    assert reads <= 10  # the handshake of the connection, one pipeline, and this question


async def test_each_round_trip_is_timed_once_also_one_that_fails(queue: Queue, redis_server: RedisServer) -> None:
    futures = [queue.publish("a", b"1") for _ in range(100)]
    queue.start()
    await asyncio.gather(*futures)
    assert len(queue.round_trips) == 1
    assert queue.round_trips[0] > 0
    redis_server.kill()
    assert await outcome(queue.publish("a", b"2")) is BrokerUnavailable
    assert len(queue.round_trips) == 2


async def test_above_its_bound_the_queue_refuses_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_WAITING", 3)
    futures = [queue.publish("a", b"1") for _ in range(3)]
    with pytest.raises(BrokerBusy) as caught:
        queue.publish("a", b"1")
    assert caught.value.waiting == 3
    queue.start()
    assert await asyncio.gather(*futures) == [0, 0, 0]
    assert await outcome(queue.publish("a", b"1")) == 0


async def test_above_its_bytes_the_queue_refuses_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_WAITING_BYTES", 10)
    first = queue.publish("a", b"x" * 10)
    with pytest.raises(BrokerBusy):
        queue.publish("a", b"1")
    queue.start()
    assert await outcome(first) == 0
    assert await outcome(queue.publish("a", b"x" * 10)) == 0


async def test_without_redis_a_publication_fails_and_when_it_is_back_the_next_one_works(
    queue: Queue, redis_server: RedisServer
) -> None:
    queue.start()
    assert await outcome(queue.publish("a", b"1")) == 0
    redis_server.kill()
    assert await outcome(queue.publish("a", b"2")) is BrokerUnavailable
    assert await outcome(queue.publish("a", b"3")) is BrokerUnavailable
    redis_server.start()
    assert await outcome(queue.publish("a", b"4")) == 0


async def test_a_publication_without_an_answer_is_not_sent_again(
    queue: Queue, redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been executed, and a second one would deliver it twice."""
    monkeypatch.setattr("gateway.storage.redis.COMMAND_TIMEOUT_S", 0.2)
    impatient = Queue(redis_server.url)
    impatient.start()
    assert await outcome(impatient.publish("a", b"1")) == 0
    redis_server.freeze()
    assert await outcome(impatient.publish("a", b"2")) is BrokerUnavailable
    redis_server.thaw()
    assert await outcome(impatient.publish("a", b"3")) == 0
    assert (await redis.info("commandstats"))["cmdstat_publish"]["calls"] <= 3
    await impatient.stop()


async def test_what_redis_refuses_is_refused_alone(queue: Queue, redis: Redis) -> None:
    await redis.execute_command("ACL", "SETUSER", "default", "resetchannels", "&ok")
    futures = [queue.publish(channel, b"1") for channel in ("ok", "secret", "ok")]
    queue.start()
    assert [await outcome(done) for done in futures] == [0, BrokerRefused, 0]


async def test_what_waits_at_the_end_fails_and_an_unheard_failure_is_no_warning(queue: Queue) -> None:
    queue.start()
    assert await outcome(queue.publish("a", b"1")) == 0
    futures = [queue.publish("a", b"%d" % number) for number in range(2000)]
    await queue.stop()
    assert {await outcome(done) for done in futures} <= {0, BrokerUnavailable}
    assert await outcome(futures[-1]) is BrokerUnavailable


async def test_who_does_not_wait_any_more_holds_nobody_up(queue: Queue) -> None:
    first, second = queue.publish("a", b"1"), queue.publish("a", b"2")
    first.cancel()
    queue.start()
    assert await outcome(second) == 0


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("SET", "news", "1"), "news"),
        (("EVALSHA", "digest", 2, "log", "meta", "argument"), "log"),
        (("EVALSHA", "digest", 0, "argument"), None),
        (("XGROUP", "CREATE", "ingest", "relay", "0"), "ingest"),
        (("XREADGROUP", "GROUP", "relay", "me", "COUNT", 1, "STREAMS", "ingest", ">"), "ingest"),
        (("XREAD", "COUNT", 1, "STREAMS", "events", "0"), "events"),
        (("TIME",), None),
    ],
)
def test_a_command_knows_the_key_that_decides_where_it_goes(words: tuple[str | int, ...], key: str | None) -> None:
    assert commands.Fixed(words, 0).key == key


async def test_a_connection_that_is_lost_just_before_it_is_written_to_fails_the_batch_and_no_more(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop raises what is no error of Redis (RuntimeError) for a write to a transport that has closed."""
    write = AbstractConnection._send_packed_command

    async def lost_before(connection: AbstractConnection, command: Iterable[bytes]) -> None:
        monkeypatch.setattr(AbstractConnection, "_send_packed_command", write)
        assert connection._writer is not None
        assert connection._reader is not None
        connection._writer.transport.abort()
        assert await connection._reader.read() == b""  # the end has been told
        await write(connection, command)

    async def outcomes() -> list[Any]:
        queue = Queue(redis_server.url)
        queue.start()
        before = await queue.queue.submit("SET", "a", "1")
        monkeypatch.setattr(AbstractConnection, "_send_packed_command", lost_before)
        lost = await outcome(queue.queue.submit("SET", "a", "2"))
        after = await queue.queue.submit("GET", "a")
        await queue.stop()
        return [before, lost, after]

    assert await asyncio.to_thread(uvloop.run, outcomes()) == [True, BrokerUnavailable, b"1"]
