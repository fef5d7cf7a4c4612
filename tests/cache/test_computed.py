"""Values: computed once for the fleet."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.cache import AsyncCache
from tests.cache.conftest import Model, asked
from tests.support.waiting import wait_until


async def test_a_value_is_computed_once_and_is_there_for_every_process(cache: AsyncCache, other: AsyncCache) -> None:
    model = Model()
    first = await cache.get_or_compute(asked(), model.compute)
    assert (first.level, first.value) == ("produced", {"text": "Because of Rayleigh.", "asked": 1})
    await wait_until(lambda: cache.stats().flights == 0, "Redis has it")
    assert (await cache.get_or_compute(asked(), model.compute)).level == "local"
    there = await other.get_or_compute(asked(), model.compute)
    assert (there.level, there.value) == ("redis", first.value)
    assert model.asked == 1


async def test_callers_at_the_same_time_wait_for_one(cache: AsyncCache, other: AsyncCache) -> None:
    asked_for: list[int] = []

    async def compute() -> Any:
        asked_for.append(1)
        await wait_until(lambda: other.stats().flights, "the others wait, too")
        return [1, 2]

    found = await asyncio.gather(*(each.get_or_compute(asked(), compute) for each in (cache, other) * 25))
    assert [each.value for each in found] == [[1, 2]] * 50
    assert sorted(each.level for each in found) == ["coalesced"] * 49 + ["produced"]
    assert len(asked_for) == 1
