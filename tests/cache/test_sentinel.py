"""The cache on a master that Sentinels name; a cluster is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.cache import AsyncCache
from gateway.errors import ConfigError
from loadtest.fleet.sentinels import SentinelFleet
from loadtest.fleet.servers import wait_same
from tests.cache.conftest import OPTIONS, Model, asked, until_landed
from tests.support.redis_fleet import FLEET_TIMEOUT_S, redis_fleet
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)


@pytest.fixture
def fleet() -> Iterator[SentinelFleet]:
    with redis_fleet("sentinel") as fleet:
        assert isinstance(fleet, SentinelFleet)
        yield fleet


async def levels(cache: AsyncCache, text: str, model: Model) -> set[str]:
    """Of one value and one text."""
    value = await cache.get_or_compute(asked(text, kind="system_prompt"), model.compute)
    answer = await cache.get_or_stream(asked(text), model.stream)
    assert await answer.text() == "Because of Rayleigh."
    await until_landed(cache)
    return {value.level, answer.level}


async def test_answers_are_shared_and_survive_the_master(fleet: SentinelFleet) -> None:
    model = Model()
    async with AsyncCache(fleet.url, options=OPTIONS) as cache, AsyncCache(fleet.url, options=OPTIONS) as other:
        assert await levels(cache, "Why?", model) == {"produced"}
        assert await levels(other, "Why?", model) == {"redis"}
        old = fleet.master_of("")
        wait_same(old, fleet.replica_of(old))
        old.kill()
        await asyncio.to_thread(fleet.wait_failed_over, "", old)
        async with AsyncCache(fleet.url, options=OPTIONS) as third:
            assert await levels(third, "Why?", model) == {"redis"}
        assert model.asked == 2
        # Connections that were open to the old master find the new one.
        number = 0
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await levels(cache, f"Why {number}?", model)
                if await levels(other, f"Why {number}?", model) == {"redis"}:
                    break
                number += 1
        pool = cache.stats().pool
        assert pool is not None
        assert pool.reconnects > 0


async def test_it_closes_however_far_it_has_come_to_the_master(fleet: SentinelFleet) -> None:
    for steps in range(60):
        async with asyncio.timeout(DEADLINE_S):
            async with AsyncCache(fleet.url, options=OPTIONS):
                for _ in range(steps):
                    await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="not with a cluster"):
        AsyncCache("redis+cluster://127.0.0.1:7000")
