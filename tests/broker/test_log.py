"""The log of a channel in a real Redis: what is published, in whatever form, is logged, numbered and delivered once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.broker import ChannelLog, CommandQueue, Page, Published, keep_functions
from gateway.broker import commands as commands_module
from gateway.broker import log as module
from gateway.broker.scripts import publish_function, source
from gateway.config import Redis as RedisSettings
from gateway.errors import BrokerBusy, BrokerRefused
from gateway.storage.redis import connect
from protocol.position import Position
from protocol.redis_contract import Metadata, Received, decode_payload
from protocol.replies import ClientInfo
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

LOG, META, PUB = "gw:log:room", "gw:meta:room", "gw:pub:room"


class World:
    """A log as one process has it, and a subscriber of the channel `room`."""

    def __init__(self, url: str) -> None:
        self._client = connect(RedisSettings(url=url))
        self.queue = CommandQueue(self._client)
        self.log = ChannelLog(self.queue, self.queue, prefix="gw")
        self.redis = Redis.from_url(url)
        self._listener = self.redis.pubsub()

    async def __aenter__(self) -> World:
        await self._listener.subscribe(PUB)
        await self._listener.get_message(timeout=10)
        self.running = asyncio.create_task(self.queue.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running.cancel()
        await self._listener.aclose()  # type: ignore[no-untyped-call]
        await self.redis.aclose()
        await self._client.aclose()

    def append(
        self, data: bytes = b"1", *, size: int = 100, ttl_s: float = 60, **more: Any
    ) -> asyncio.Future[Published]:
        metadata = more.pop("metadata", Metadata())
        return self.log.append("room", data, metadata, size=size, ttl_s=ttl_s, **more)

    async def heard(self, count: int) -> list[Received]:
        """The next publications that the subscriber gets, and no other one behind them."""
        payloads = []
        for _ in range(count):
            message = await self._listener.get_message(ignore_subscribe_messages=True, timeout=10)
            assert message is not None
            payloads.append(decode_payload(message["data"]))
        await self.redis.publish(PUB, b'"the end"')
        message = await self._listener.get_message(ignore_subscribe_messages=True, timeout=10)
        assert message is not None
        assert message["data"] == b'"the end"'
        return [payload for payload in payloads if isinstance(payload, Received)]

    async def read(self, *, after: int = 0, limit: int = 1000) -> Page:
        return await self.log.read("room", after=after, limit=limit)

    async def offsets(self) -> list[int]:
        return [each.offset for each in (await self.read()).publications]


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with World(redis_server.url) as world:
        yield world


# What is published.


async def test_offsets_are_dense_and_every_subscriber_hears_every_one_in_order(world: World) -> None:
    sent = [world.append(b"%d" % number) for number in range(250)]
    done = await asyncio.gather(*sent)
    assert [each.position.offset for each in done] == list(range(1, 251))
    assert len({each.position.epoch for each in done}) == 1
    assert all(each.fresh for each in done)
    heard = await world.heard(250)
    assert [each.position for each in heard] == [each.position for each in done]
    assert [bytes(each.publication.data) for each in heard] == [b"%d" % number for number in range(250)]  # type: ignore[arg-type]
    assert await world.offsets() == list(range(151, 251))


async def test_several_processes_share_one_sequence(world: World, redis_server: RedisServer) -> None:
    async with World(redis_server.url) as other:
        done = await asyncio.gather(*(each.append() for _ in range(100) for each in (world, other)))
    assert sorted(each.position.offset for each in done) == list(range(1, 201))
    assert len({each.position.epoch for each in done}) == 1


async def test_channels_do_not_mix_and_each_keeps_its_order(world: World) -> None:
    sent = [
        world.log.append(channel, b"%d" % number, Metadata(), size=100, ttl_s=60)
        for number in range(30)
        for channel in ("room", "room", "hall")
    ]
    await asyncio.gather(*sent)
    hall = await world.log.read("hall", after=0, limit=100)
    assert [bytes(each.data) for each in hall.publications] == [b"%d" % number for number in range(30)]  # type: ignore[arg-type]
    assert (await world.read()).top.offset == 60


@pytest.mark.parametrize(
    "data", [b"null", b'{"z":1,"a":0.10}', '"ä €"'.encode(), b"123456789012345678901234567890", b'"@1 no"', b'"\\n"']
)
async def test_what_is_published_is_what_is_heard_and_read(world: World, data: bytes) -> None:
    metadata = Metadata(info=ClientInfo(user="ä", client="c", conn_info=Raw(b'{"a": 1}')), tags={"k": "v w"})
    published = await world.append(data, metadata=metadata)
    (heard,) = await world.heard(1)
    (read,) = (await world.read()).publications
    for each in (heard.publication, read):
        assert bytes(each.data) == data  # type: ignore[arg-type]
        assert (each.info, each.tags, each.offset) == (metadata.info, metadata.tags, published.position.offset)


async def test_a_publication_that_waits_between_two_others_is_not_overtaken(world: World) -> None:
    await world.append(b"0")  # Redis knows the script from here on
    await world.heard(1)
    first = world.append(b"1")
    plain = world.queue.publish(PUB.encode(), b'"plain"')
    second = world.append(b"2")
    await asyncio.gather(first, plain, second)
    heard = await world.heard(3)
    assert [bytes(each.publication.data) for each in heard] == [b"1", b'"plain"', b"2"]  # type: ignore[arg-type]


async def test_what_waits_is_bounded_also_where_publications_go_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "MAX_WAITING", 10)
    sent = [world.append() for _ in range(10)]
    with pytest.raises(BrokerBusy):
        world.append()
    await asyncio.gather(*sent)
    assert (await world.append()).position.offset == 11


async def test_a_large_batch_is_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1000)
    done = await asyncio.gather(*(world.append(b'"%s"' % (b"x" * 400)) for _ in range(10)))
    assert [each.position.offset for each in done] == list(range(1, 11))


# Bounds of the log.


async def test_the_log_has_the_newest_and_a_life(world: World) -> None:
    await asyncio.gather(*(world.append(size=7, ttl_s=50) for _ in range(20)))
    assert await world.offsets() == list(range(14, 21))
    assert 40_000 < await world.redis.pttl(LOG) <= 50_000
    assert await world.redis.pttl(META) > 29 * 86_400_000


async def test_the_position_outlives_the_log(world: World) -> None:
    published = await world.append()
    await world.redis.delete(LOG)
    assert await world.read() == Page([], published.position)
    assert (await world.append()).position == Position(offset=2, epoch=published.position.epoch)


async def test_a_log_without_its_position_is_another_life(world: World) -> None:
    first = await world.append(b'"old"')
    await world.redis.delete(META)
    second = await world.append(b'"new"')
    assert second.position.offset == 1
    assert second.position.epoch != first.position.epoch
    assert [bytes(each.data) for each in (await world.read()).publications] == [b'"new"']  # type: ignore[arg-type]


async def test_reading_gives_a_channel_its_first_position(world: World) -> None:
    page = await world.read()
    assert page.publications == []
    assert page.top.offset == 0
    assert page.top.epoch
    assert (await world.append()).position == Position(offset=1, epoch=page.top.epoch)


async def test_removing_keeps_the_position(world: World) -> None:
    published = await world.append()
    await world.log.remove("room")
    assert await world.read() == Page([], published.position)


@pytest.mark.parametrize("offset", [2**31 - 1, 2**32, 2**53 - 3])
async def test_offsets_may_be_large(world: World, offset: int) -> None:
    await world.redis.hset(META, mapping={"epoch": "e", "offset": str(offset)})
    done = await asyncio.gather(world.append(b"1"), world.append(b"2", version=1))
    assert [each.position.offset for each in done] == [offset + 1, offset + 2]
    assert [each.position.offset for each in await world.heard(2) if each.position] == [offset + 1, offset + 2]
    page = await world.read(after=offset + 1)
    assert [each.offset for each in page.publications] == [offset + 2]
    back = await world.log.read_back("room", before=offset + 2, limit=5)
    assert [each.offset for each in back.publications] == [offset + 1]


# Once only.


async def test_an_idempotency_key_publishes_once_also_within_one_run(world: World) -> None:
    done = await asyncio.gather(*(world.append(b"%d" % n, key=key) for n, key in enumerate(("a", "b", "a", "", "b"))))
    assert [(each.position.offset, each.fresh) for each in done] == [
        (1, True),
        (2, True),
        (1, False),
        (3, True),
        (2, False),
    ]
    assert [(await world.append(key="a")), (await world.append(key="a", version=9))] == [done[2], done[2]]
    assert len(await world.heard(3)) == 3
    assert 290_000 < await world.redis.pttl("gw:done:room:a") <= 300_000


async def test_keys_count_per_channel(world: World) -> None:
    await world.append(key="a")
    other = await world.log.append("hall", b"1", Metadata(), size=5, ttl_s=5, key="a")
    assert other.fresh


async def test_a_version_that_is_not_newer_is_not_published(world: World) -> None:
    first = await world.append(b"1", version=5, version_epoch="x")
    assert not (await world.append(b"2", version=5, version_epoch="x")).fresh
    assert not (await world.append(b"2", version=4, version_epoch="x")).fresh
    assert (await world.append(b"3")).fresh
    assert (await world.append(b"4", version=6, version_epoch="x")).fresh
    assert (await world.append(b"5", version=1, version_epoch="y")).fresh
    assert first.position.offset == 1
    assert len(await world.heard(4)) == 4


# A Redis with troubles.


async def test_a_redis_that_forgets_the_script_loses_and_doubles_nothing(world: World) -> None:
    done = []
    for number in range(20):
        if number % 5 == 0:
            await world.redis.script_flush()
        done += await asyncio.gather(world.append(b"1"), world.append(b"2", version=number + 1))
    assert [each.position.offset for each in done] == list(range(1, 41))
    assert len(await world.heard(40)) == 40


async def test_a_redis_without_memory_takes_nothing_and_says_so(world: World) -> None:
    await world.append()
    await world.redis.config_set("maxmemory", "1")
    try:
        for more in ({}, {"version": 3}, {"key": "k"}):
            with pytest.raises(BrokerRefused, match="maxmemory"):
                await world.append(b"2", **more)
    finally:
        await world.redis.config_set("maxmemory", "0")
    assert await world.offsets() == [1]
    assert (await world.append(b"3", key="k")).position.offset == 2


async def test_a_redis_that_loses_its_data_begins_a_new_life(world: World) -> None:
    first = await world.append()
    await world.redis.flushall()
    second = await world.append()
    assert second.position.offset == 1
    assert second.position.epoch != first.position.epoch


# Reading, against a list.


@given(
    published=st.integers(0, 30),
    kept=st.integers(1, 40),
    reads=st.lists(st.tuples(st.booleans(), st.integers(0, 35), st.integers(0, 12)), max_size=8),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pages_are_parts_of_the_log(
    world: World, published: int, kept: int, reads: list[tuple[bool, int, int]]
) -> None:
    await world.redis.delete(LOG, META)
    await asyncio.gather(*(world.append(size=kept) for _ in range(published)))
    model = list(range(1, published + 1))[-kept:]
    for back, offset, limit in reads:
        if back:
            page = await world.log.read_back("room", before=offset or None, limit=limit)
            expected = [each for each in reversed(model) if not offset or each < offset]
        else:
            page = await world.read(after=offset, limit=limit)
            expected = [each for each in model if each > offset]
        assert [each.offset for each in page.publications] == expected[:limit]
        assert page.top.offset == published


# The same for other languages.


ARGUMENTS = (PUB, '{"n":1}', "-", 100, 60_000, 86_400_000, "epoch", 300_000, 0, "")


async def by_script(redis: Redis, *tail: Any) -> Any:
    return await redis.eval(source("publish"), *tail)


async def by_function(redis: Redis, *tail: Any) -> Any:
    return await redis.fcall("gw_publish", *tail)


def has_functions(info: dict[str, Any]) -> bool:
    return int(info["redis_version"].split(".")[0]) >= 7


@pytest.mark.parametrize("call", [by_script, by_function])
async def test_backends_in_other_languages_share_the_sequence(world: World, call: Any) -> None:
    if call is by_function:
        if not has_functions(await world.redis.info("server")):
            pytest.skip("Redis before 7 has no functions")
        await world.redis.function_load(publish_function(), replace=True)
    mine = await world.append(b'"mine"')
    assert await call(world.redis, 2, LOG, META, *ARGUMENTS) == [2, mine.position.epoch.encode(), 1]
    keyed = (3, LOG, META, "gw:done:room:k", *ARGUMENTS)
    assert await call(world.redis, *keyed) == [3, mine.position.epoch.encode(), 1]
    assert await call(world.redis, *keyed) == [3, mine.position.epoch.encode(), 0]
    assert not (await world.append(key="k")).fresh
    heard = await world.heard(3)
    assert [json.loads(bytes(each.publication.data)) for each in heard] == ["mine", {"n": 1}, {"n": 1}]  # type: ignore[arg-type]
    with pytest.raises(ResponseError, match="one line"):
        await call(world.redis, 2, LOG, META, PUB, "1", "{\n}", *ARGUMENTS[3:])


class FakeCommands:
    """Answers what the test has prepared, then nothing more."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []

    def submit(self, *arguments: Any, size: int = 0) -> asyncio.Future[Any]:
        self.asked.append(arguments[:2] if size == 0 else arguments)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                done.set_exception(answer)
            else:
                done.set_result(answer)
        return done


async def asked(commands: FakeCommands, count: int) -> list[tuple[Any, ...]]:
    running = asyncio.create_task(keep_functions(commands))
    await wait_until(lambda: running.done() or len(commands.asked) >= count, "it has asked")
    assert not running.done()
    running.cancel()
    return commands.asked


async def test_the_function_is_loaded_again_when_redis_has_lost_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.broker.functions.LOOK_S", 0)
    load, look = ("FUNCTION", "LOAD"), ("FUNCTION", "LIST")
    assert await asked(FakeCommands(b"gw", [b"gw"], [], b"gw", [b"gw"]), 6) == [load, look, look, load, look, look]


async def test_a_redis_without_functions_is_asked_again_and_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.broker.functions.LOOK_S", 0)
    commands = FakeCommands(BrokerRefused("ERR unknown command 'FUNCTION'"), BrokerRefused("NOPERM"), b"gw")
    assert await asked(commands, 4) == [("FUNCTION", "LOAD")] * 3 + [("FUNCTION", "LIST")]


async def test_the_function_is_there_once_the_control_process_runs(world: World) -> None:
    if not has_functions(await world.redis.info("server")):
        pytest.skip("Redis before 7 has no functions")
    running = asyncio.create_task(keep_functions(world.queue))
    while not await world.redis.function_list("gw"):
        assert not running.done()
    running.cancel()
    assert await world.redis.fcall("gw_publish", 2, LOG, META, *ARGUMENTS) == [1, b"epoch", 1]
