"""Redis stopped, frozen, restarted, emptied; values damaged. No caller sees an error, and none waits longer than a
budget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.cache import AsyncCache, Draft
from gateway.cache.request import digest_of
from tests.cache.conftest import OPTIONS, Model, asked, until_landed
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, wait_until

FRAIL = OPTIONS._replace(budget_s=0.1, breaker_failures=2, breaker_open_s=0.05, retry_for_s=0.5, local_ttl_s=0.0)
"""Asks Redis each time, and gives it up soon."""


@pytest.fixture(params=["stopped", "frozen"])
def away(request: pytest.FixtureRequest, redis_server: RedisServer) -> Any:
    """Takes Redis away."""
    return redis_server.kill if request.param == "stopped" else redis_server.freeze


async def test_while_redis_is_away_what_is_in_memory_is_served_as_stale(redis_server: RedisServer, away: Any) -> None:
    model = Model()
    async with AsyncCache(redis_server.url, options=FRAIL) as cache:
        await (await cache.get_or_stream(asked(), model.stream)).text()
        await cache.get_or_compute(asked(), model.compute)
        await until_landed(cache)
        away()
        for _ in range(5):
            answer = await cache.get_or_stream(asked(), model.stream)
            assert (answer.level, answer.stale, await answer.text()) == ("stale", True, "Because of Rayleigh.")
            found = await cache.get_or_compute(asked(), model.compute)
            assert (found.level, found.stale, found.value["text"]) == ("stale", True, "Because of Rayleigh.")
        assert model.asked == 2
        assert cache.stats().redis_away
        assert cache.stats().kinds["prompt_response"].hits_stale == 10


async def test_while_redis_is_away_what_is_not_in_memory_is_produced(redis_server: RedisServer, away: Any) -> None:
    model = Model(usage=1)
    async with AsyncCache(redis_server.url, options=FRAIL) as cache:
        away()
        for text in ("a", "b", "c"):
            answer = await cache.get_or_stream(asked(text), model.stream)
            assert (answer.level, await answer.text(), answer.usage) == ("produced", "Because of Rayleigh.", 1)
            assert (await cache.get_or_compute(asked(text), model.compute)).level == "produced"
        assert model.asked == 6
        # What was produced meanwhile is in memory, so it does not cost twice even now.
        await until_landed(cache)
        assert (await cache.get_or_stream(asked("a"), model.stream)).level == "stale"
        assert (await cache.get_or_compute(asked("a"), model.compute)).level == "stale"
        assert cache.stats().kinds["prompt_response"].unstored == 6


async def test_an_answer_that_began_without_redis_is_in_its_stream_once_redis_is_back(
    redis_server: RedisServer,
) -> None:
    """Who asks elsewhere meanwhile, or follows the stream, gets it; no generation without a producer is left."""
    options = FRAIL._replace(retry_for_s=20.0)
    go_on = asyncio.Event()

    async def produce(draft: Draft) -> None:
        await draft.append("Because ")
        await go_on.wait()
        await draft.append("of Rayleigh.")

    async with AsyncCache(redis_server.url, options=options) as cache:
        redis_server.freeze()
        answer = await cache.get_or_stream(asked(), produce)
        assert answer.level == "produced"
        assert await anext(answer.__aiter__()) == "Because "
        redis_server.thaw()
        await wait_until(lambda: answer.generation, "the stream is opened")
        async with AsyncCache(redis_server.url, options=OPTIONS) as other:
            follower = await other.get_or_stream(asked(), produce)
            assert (follower.level, await anext(follower.__aiter__())) == ("coalesced", "Because ")
            go_on.set()
            assert await follower.text() == await answer.text() == "Because of Rayleigh."
            assert follower.generation == answer.generation


async def test_a_redis_that_restarts_empty_in_the_middle_costs_neither_caller_nor_followers(
    redis_server: RedisServer,
) -> None:
    options = OPTIONS._replace(retry_for_s=20.0)
    go_on = asyncio.Event()

    async def produce(draft: Draft) -> None:
        await draft.append("Because ")
        await go_on.wait()
        await draft.append("of Rayleigh.")

    async with (
        AsyncCache(redis_server.url, options=options) as cache,
        AsyncCache(redis_server.url, options=options) as other,
    ):
        answers = [await each.get_or_stream(asked(), produce) for each in (cache, other)]
        assert [await anext(answer.__aiter__()) for answer in answers] == ["Because "] * 2
        redis_server.kill()
        redis_server.start()
        go_on.set()
        assert [await answer.text() for answer in answers] == ["Because of Rayleigh."] * 2
        await until_landed(cache)
        await until_landed(other)
        assert (await other.get_or_stream(asked(), produce)).level == "redis"


async def test_a_redis_that_has_lost_everything_gets_answers_again_that_are_fresh_in_memory(
    cache: AsyncCache, other: AsyncCache, redis: Redis
) -> None:
    model = Model(usage=5)
    await (await cache.get_or_stream(asked(), model.stream)).text()
    await until_landed(cache)
    await redis.flushall()
    again = await cache.get_or_stream(asked(), model.stream)
    assert (again.level, await again.text(), again.usage) == ("local", "Because of Rayleigh.", 5)
    await until_landed(cache)
    assert (await other.get_or_stream(asked(), model.stream)).level == "redis"
    assert model.asked == 1


async def test_once_redis_is_back_it_is_asked_again(redis_server: RedisServer) -> None:
    model = Model()
    async with AsyncCache(redis_server.url, options=FRAIL) as cache:
        redis_server.kill()
        await cache.get_or_compute(asked(), model.compute)
        await until_landed(cache)
        redis_server.start()

        async def redis_answers() -> bool:
            level = (await cache.get_or_compute(asked(), model.compute)).level
            await until_landed(cache)
            return level == "redis"

        await eventually(redis_answers, "it is asked again")
        assert not cache.stats().redis_away


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50, b"gwc\x09" + b"\x00" * 40, b"\x80\x04K\x01."])
async def test_a_damaged_value_is_a_miss_that_is_counted_and_mended(
    damage: bytes, redis: Redis, redis_server: RedisServer
) -> None:
    model = Model()
    key = f"gw:cache:{digest_of(asked())}"
    async with AsyncCache(redis_server.url, options=OPTIONS._replace(local_entries=0)) as cache:
        await cache.get_or_compute(asked(), model.compute)
        await until_landed(cache)
        await redis.set(key, damage, px=60_000)
        assert (await cache.get_or_compute(asked(), model.compute)).level == "produced"
        await until_landed(cache)
        assert (await cache.get_or_compute(asked(), model.compute)).level == "redis"
        assert cache.stats().kinds["prompt_response"].unreadable == 1
    assert model.asked == 2


@pytest.mark.parametrize("damage", [b"", b"\x07what", b"\x01\x28\xb5\x2f\xfd", b"\x00\xff\xfe", b"\x00shorter"])
async def test_a_damaged_text_is_a_miss_that_is_counted_and_mended(
    damage: bytes, redis: Redis, redis_server: RedisServer
) -> None:
    model = Model()
    async with AsyncCache(redis_server.url, options=OPTIONS._replace(local_entries=0)) as cache:
        answer = await cache.get_or_stream(asked(), model.stream)
        await answer.text()
        await until_landed(cache)
        await redis.set(f"gw:stream-text:{answer.key}", damage, px=60_000)
        again = await cache.get_or_stream(asked(), model.stream)
        assert (again.level, await again.text()) == ("produced", "Because of Rayleigh.")
        await until_landed(cache)
        assert (await cache.get_or_stream(asked(), model.stream)).level == "redis"
        assert cache.stats().kinds["prompt_response"].unreadable == (1 if damage else 0)
    assert model.asked == 2


async def test_a_redis_that_refuses_to_write_fails_no_request(redis_server: RedisServer, redis: Redis) -> None:
    model = Model()
    await redis.config_set("maxmemory", 1)
    async with AsyncCache(redis_server.url, options=OPTIONS) as cache:
        answer = await cache.get_or_stream(asked(), model.stream)
        assert (answer.level, await answer.text()) == ("produced", "Because of Rayleigh.")
        found = await cache.get_or_compute(asked(), model.compute)
        assert (found.level, found.value["asked"]) == ("produced", 2)
        await until_landed(cache)
        assert cache.stats().kinds["prompt_response"].unstored == 2


async def test_a_cache_that_is_closed_in_the_middle_lets_others_take_over(
    redis_server: RedisServer, other: AsyncCache
) -> None:
    """As in a deployment that rolls: the lease is not waited for."""
    patient = OPTIONS._replace(lease_s=300.0)

    async def hang(draft: Draft) -> None:
        await draft.append("Because ")
        await asyncio.Event().wait()

    async def hang_too() -> None:
        await asyncio.Event().wait()

    model = Model()
    cache = AsyncCache(redis_server.url, options=patient)
    async with cache:
        await cache.get_or_stream(asked(), hang)
        computing = asyncio.ensure_future(cache.get_or_compute(asked(), hang_too))
        answer = await other.get_or_stream(asked(), model.stream)
        computed = asyncio.ensure_future(other.get_or_compute(asked(), model.compute))
        await wait_until(lambda: other.stats().flights == 2, "the other waits")
    assert [await anext(answer.__aiter__()), await answer.text()] == ["Because ", "Because of Rayleigh."]
    assert (await computed).value["text"] == "Because of Rayleigh."
    with pytest.raises(Exception, match="closed"):
        await computing
