"""Texts: produced once, followed by everybody, and there for who comes later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.cache import (
    Answer,
    AnswerFailed,
    AnswerRefused,
    AnswerRestarted,
    AsyncCache,
    CacheClosed,
    CacheInvalid,
    Draft,
    Kind,
    StreamCancelled,
)
from gateway.cache.text import Ending, Text
from gateway.streams import Streams
from tests.cache.conftest import OPTIONS, Model, asked, until_landed
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, wait_until


async def pieces(answer: Answer) -> str:
    return "".join([piece async for piece in answer])


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


# What is not kept, and what fails.


async def test_sampled_answers_are_not_kept_unless_their_kind_wants_them(
    cache: AsyncCache, redis_server: RedisServer
) -> None:
    model = Model()
    answers = [await cache.get_or_stream(asked(temperature=0.7), model.stream) for _ in range(2)]
    assert [answer.level for answer in answers] == ["bypass"] * 2
    assert [await answer.text() for answer in answers] == ["Because of Rayleigh."] * 2
    assert answers[0].channel != answers[1].channel
    assert model.asked == 2
    sampled = OPTIONS._replace(kinds={"prompt_response": Kind(60, keep_sampled=True)})
    async with AsyncCache(redis_server.url, options=sampled) as keeping:
        await (await keeping.get_or_stream(asked(temperature=0.7), model.stream)).text()
        await until_landed(keeping)
        assert (await keeping.get_or_stream(asked(temperature=0.7), model.stream)).level == "redis"


async def test_an_answer_that_is_not_whole_is_handed_on_and_not_kept(cache: AsyncCache) -> None:
    async def short(draft: Draft) -> Any:
        await draft.append("Because")
        draft.truncate()
        return {"tokens": 1}

    answer = await cache.get_or_stream(asked(), short)
    assert (await answer.text(), answer.status, answer.usage) == ("Because", "truncated", {"tokens": 1})
    await until_landed(cache)
    assert (await cache.get_or_stream(asked(), Model().stream)).level == "produced"


async def test_a_failure_is_raised_here_and_said_elsewhere_and_not_kept(cache: AsyncCache, other: AsyncCache) -> None:
    waits = asyncio.Event()

    async def fail(draft: Draft) -> Any:
        await draft.append("Because ")
        await waits.wait()
        raise ValueError("a secret of the backend")

    mine = await cache.get_or_stream(asked(), fail)
    theirs = await other.get_or_stream(asked(), fail)
    waits.set()
    with pytest.raises(ValueError, match="secret"):
        await mine.text()
    with pytest.raises(AnswerFailed, match=r"^error: the producer failed$"):
        await theirs.text()
    await until_landed(cache)
    await until_landed(other)
    assert (await other.get_or_stream(asked(), Model().stream)).level == "produced"
    assert cache.stats().kinds["prompt_response"].failures == 1


async def test_what_is_refused_every_time_is_refused_for_a_while_without_asking(
    redis_server: RedisServer, other: AsyncCache
) -> None:
    model = Model(error=AnswerRefused("too_long", "8,192 tokens at most"))
    async with AsyncCache(redis_server.url, options=OPTIONS._replace(error_ttl_s=1.0)) as cache:
        answer = await cache.get_or_stream(asked(), model.stream)
        with pytest.raises(AnswerRefused, match="too_long: 8,192"):
            await answer.text()
        await until_landed(cache)
        with pytest.raises(AnswerRefused, match="too_long: 8,192"):
            await other.get_or_stream(asked(), model.stream)
        with pytest.raises(AnswerRefused, match="too_long: 8,192"):
            await other.get_or_compute(asked(), model.compute)
        assert model.asked == 1
        assert other.stats().kinds["prompt_response"].refusals == 2
        model.error = None

        async def answered() -> Answer | None:
            try:
                return await other.get_or_stream(asked(), model.stream)
            except AnswerRefused:
                return None

        again = await eventually(answered, "the refusal is forgotten")
        assert again is not None
        assert (again.level, await again.text()) == ("produced", "Because of Rayleigh.")


async def test_a_caller_that_leaves_ends_nothing(cache: AsyncCache) -> None:
    go_on = asyncio.Event()

    async def produce(draft: Draft) -> None:
        await go_on.wait()
        await draft.append("Because of Rayleigh.")

    async def ask() -> str:
        return await (await cache.get_or_stream(asked(), produce)).text()

    caller = asyncio.ensure_future(ask())
    await wait_until(lambda: cache.stats().flights, "it is being produced")
    answer = await cache.get_or_stream(asked(), produce)
    caller.cancel()
    go_on.set()
    assert await answer.text() == "Because of Rayleigh."


async def test_who_ends_the_stream_ends_it_for_all(
    cache: AsyncCache, other: AsyncCache, redis_server: RedisServer
) -> None:
    async def hang(draft: Draft) -> None:
        await draft.append("Because ")
        await asyncio.Event().wait()

    answers = [await each.get_or_stream(asked(), hang, owner="ada") for each in (cache, other)]
    await wait_until(lambda: answers[0].generation, "the stream is opened")
    async with Streams(redis_server.url) as streams:
        await streams.cancel(answers[0].key, by="ada")
    for answer in answers:
        with pytest.raises(StreamCancelled):
            await answer.text()


async def test_what_a_new_producer_says_goes_on_from_what_was_handed_on_or_restarts() -> None:
    cases = ((("Because o", "f Rayleigh."), "Because of Rayleigh."), (("Be", "long"), None), (("Bec",), None))
    for second, whole in cases:
        text = Text()
        text.add("Because ")
        answer = Answer("k", "coalesced", text)
        handed = answer.__aiter__()
        assert await anext(handed) == "Because "
        text.restart()
        for piece in second:
            text.add(piece)
        text.end(Ending("finished"))
        if whole is not None:
            assert "Because " + "".join([piece async for piece in handed]) == whole
        else:
            with pytest.raises(AnswerRestarted) as restarted:
                await anext(handed)
            assert restarted.value.handed_on == 8
        assert await answer.text() == "".join(second)


@pytest.mark.parametrize("wrong", [b"bytes", None, "\ud800"])
async def test_what_is_no_text_is_refused_where_it_is_said(wrong: Any, cache: AsyncCache) -> None:
    async def produce(draft: Draft) -> None:
        await draft.append(wrong)

    with pytest.raises(CacheInvalid):
        await (await cache.get_or_stream(asked(), produce)).text()


async def test_usage_that_is_no_json_is_refused(cache: AsyncCache) -> None:
    for usage in (object(), "x" * 70_000):
        with pytest.raises(CacheInvalid, match="usage"):
            await (await cache.get_or_stream(asked(str(type(usage))), Model(usage=usage).stream)).text()


async def test_a_cache_that_is_not_open_says_so(redis_server: RedisServer) -> None:
    cache = AsyncCache(redis_server.url)
    with pytest.raises(CacheClosed):
        await cache.get_or_stream(asked(), Model().stream)
    async with cache:
        with pytest.raises(CacheClosed):
            await cache.__aenter__()
        with pytest.raises(CacheInvalid, match="is none of"):
            await cache.get_or_stream(asked(kind="unknown"), Model().stream)
