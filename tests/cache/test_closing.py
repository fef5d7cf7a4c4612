"""A cache that is closed while it is asked: whoever asks is told, and no connection to Redis stays open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.cache import AsyncCache, Computed, Options
from gateway.errors import CacheClosed
from tests.cache.conftest import OPTIONS, Model, asked
from tests.support.redis_server import RedisServer
from tests.support.waiting import DEADLINE_S, eventually

STEPS = range(0, 90, 2)
"""Turns of the event loop that a call gets before the cache is closed; it needs some sixty."""


def call(cache: AsyncCache, how: str, text: str, model: Model) -> Coroutine[Any, Any, Any]:
    if how == "compute":
        return cache.get_or_compute(asked(text), model.compute)

    async def stream() -> str:
        answer = await cache.get_or_stream(asked(text), model.stream)
        return await answer.text()

    return stream()


async def outcomes(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """Of tasks that must end by themselves."""
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def until_only_one_is_connected(redis: Redis) -> None:
    """Redis hears of a connection's end a little later."""

    async def alone() -> bool:
        return len(await redis.client_list()) <= 1

    await eventually(alone, "all other connections are closed")


@pytest.mark.parametrize("budget_s", [OPTIONS.budget_s, 0.002])
@pytest.mark.parametrize("how", ["compute", "stream"])
async def test_calls_end_and_no_connection_stays_open_whenever_it_is_closed(
    how: str, budget_s: float, redis_server: RedisServer, redis: Redis
) -> None:
    ends = set()
    for steps in STEPS:
        model = Model()
        async with AsyncCache(redis_server.url, options=OPTIONS._replace(budget_s=budget_s, connections=2)) as cache:
            tasks = [asyncio.create_task(call(cache, how, f"{how} {steps}", model)) for _ in range(2)]
            for _ in range(steps):
                await asyncio.sleep(0)
        for outcome in await outcomes(tasks):
            if isinstance(outcome, CacheClosed):
                ends.add("closed")
            else:
                value = outcome.value["text"] if isinstance(outcome, Computed) else outcome
                assert value == "Because of Rayleigh."
                ends.add("answered")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await until_only_one_is_connected(redis)
    assert "closed" in ends


async def test_a_call_that_waits_for_a_silent_redis_is_told_at_once(redis_server: RedisServer) -> None:
    async with AsyncCache(redis_server.url, options=Options(budget_s=5.0)) as cache:
        redis_server.freeze()
        tasks = [asyncio.create_task(call(cache, how, "Why?", Model())) for how in ("compute", "stream")]
        for _ in range(50):
            await asyncio.sleep(0)
    redis_server.thaw()
    assert [type(outcome) for outcome in await outcomes(tasks)] == [CacheClosed, CacheClosed]
