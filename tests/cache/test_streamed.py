"""Texts: produced once, followed by everybody, and there for who comes later."""

from __future__ import annotations

import asyncio

from gateway.cache import (
    Answer,
    AsyncCache,
    Draft,
)
from gateway.streams import Streams
from tests.cache.conftest import Model, asked
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


async def pieces(answer: Answer) -> str:
    return "".join([piece async for piece in answer])


async def until_landed(cache: AsyncCache) -> None:
    await wait_until(lambda: cache.stats().flights == 0, "Redis has everything")


async def test_an_answer_is_produced_once_and_is_there_for_every_process(cache: AsyncCache, other: AsyncCache) -> None:
    model = Model(usage={"tokens": 7})
    first = await cache.get_or_stream(asked(), model.stream)
    assert (first.level, await first.text(), first.usage) == ("produced", "Because of Rayleigh.", {"tokens": 7})
    await until_landed(cache)
    for each in (cache, other):
        again = await each.get_or_stream(asked(), model.stream)
        assert (again.level, again.status, await pieces(again)) == ("redis", "finished", "Because of Rayleigh.")
        assert (again.usage, again.generation, again.channel) == ({"tokens": 7}, first.generation, first.channel)
    assert model.asked == 1
    assert cache.stats().kinds["prompt_response"].hit_rate == 0.5


async def test_callers_at_the_same_time_share_one_live_stream(cache: AsyncCache, other: AsyncCache) -> None:
    go_on = asyncio.Event()
    model = Model()

    async def produce(draft: Draft) -> None:
        await draft.append("Because ")
        await go_on.wait()
        model.asked += 1
        await draft.append("of Rayleigh.")

    answers = [await each.get_or_stream(asked(), produce) for each in (cache, other) for _ in range(25)]
    assert [answer.level for answer in answers].count("produced") == 1
    reading = [asyncio.ensure_future(pieces(answer)) for answer in answers]
    live = answers[-1].__aiter__()
    assert await anext(live) == "Because "  # through Redis, before the end
    go_on.set()
    assert await asyncio.gather(*reading) == ["Because of Rayleigh."] * 50
    assert model.asked == 1


async def test_an_answer_is_a_stream_as_any_other(cache: AsyncCache, redis_server: RedisServer) -> None:
    answer = await cache.get_or_stream(asked(), Model(usage=3).stream, owner="ada")
    await answer.text()
    await until_landed(cache)
    async with Streams(redis_server.url) as streams:
        status = await streams.status(answer.key)
        assert status is not None
        assert (status.owner, status.status, status.length) == ("ada", "finished", 20)
        records = [record async for record in streams.read(answer.key)]
        assert [record.type for record in records] == ["snapshot", "finished"]
        assert (records[0].text, records[1].usage) == ("Because of Rayleigh.", 3)
