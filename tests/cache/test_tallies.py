"""What is counted: every call once, for its kind; and what of it gets to the gateway."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from gateway.broker import CommandQueue
from gateway.cache import AsyncCache, Kind, KindStatistics
from gateway.cache.options import Options
from gateway.cache.tallies import COUNTERS, Tallies
from gateway.config import Cache, Config
from gateway.control import CacheReport
from gateway.control.caches import CacheCollector
from tests.cache.conftest import OPTIONS, Model, asked, until_landed
from tests.support.redis_server import RedisServer


async def test_every_call_counts_once(cache: AsyncCache, other: AsyncCache) -> None:
    model = Model()
    await (await cache.get_or_stream(asked(), model.stream)).text()
    await cache.get_or_compute(asked(), model.compute)
    await until_landed(cache)
    await other.get_or_stream(asked(), model.stream)
    await other.get_or_compute(asked(), model.compute)
    await other.get_or_compute(asked(), model.compute)
    await other.get_or_compute(asked(temperature=0.5), model.compute)
    found = other.stats().kinds["prompt_response"]
    assert (found.hits_redis, found.hits_local, found.misses, found.bypasses) == (2, 1, 0, 1)
    assert (found.hits, found.hit_rate) == (3, 1.0)
    assert found.bytes_saved > len("Because of Rayleigh.") * 3
    here = cache.stats().kinds["prompt_response"]
    assert (here.misses, here.hits, here.hit_rate) == (2, 0, 0.0)
    assert here.bytes_packed > here.bytes_plain > 0  # too short to be compressed
    assert other.stats().kinds["system_prompt"] == KindStatistics()


async def test_what_could_not_be_told_is_told_later() -> None:
    tallies = Tallies()
    tallies.add("k", "misses", 2)
    news = tallies.take_news()
    tallies.add("k", "misses")
    tallies.give_back(news)
    assert tallies.take_news() == {("k", "misses"): 3}
    assert not tallies.take_news()
    assert tallies.of("k").misses == 3


async def test_the_gateway_reads_the_sum_of_all_processes(redis_server: RedisServer, redis: Redis) -> None:
    model = Model()
    for _ in range(2):
        async with AsyncCache(redis_server.url, options=OPTIONS) as cache:
            await cache.get_or_compute(asked(), model.compute)
            await cache.get_or_compute(asked(kind="system_prompt"), model.compute)
    commands = CommandQueue(redis)
    report = CacheReport(commands, prefix="gw")
    running = asyncio.ensure_future(commands.run())
    for field, value in (("evil{kind=x}", 1), ("prompt_response made_up", 2), ("x misses", "NaN"), ("", 3)):
        await redis.hset("gw:cache-stats", field, value)  # type: ignore[misc]
    await report.read()
    running.cancel()
    assert list(report.kinds) == ["prompt_response", "system_prompt"]
    assert (report.kinds["prompt_response"].misses, report.kinds["prompt_response"].hits_redis) == (1, 1)
    assert [kind.hit_rate for kind in report.state()] == [0.5, 0.5]
    samples = {
        (sample.name, sample.labels.get("kind"), sample.labels.get("level")): sample.value
        for family in CacheCollector(report).collect()
        for sample in family.samples
    }
    assert samples["gateway_cache_hits_total", "system_prompt", "redis"] == 1
    assert samples["gateway_cache_hit_rate", "system_prompt", None] == 0.5
    assert samples["gateway_cache_pool_waits_total", None, None] == 0


def test_no_more_kinds_than_labels_may_have_are_read() -> None:
    report = CacheReport(None, prefix="gw")  # type: ignore[arg-type]
    fields = {f"kind{number} misses".encode(): b"1" for number in range(1000)}

    class Fake:
        async def submit(self, *_: object) -> object:
            return fields

    report._commands = Fake()  # type: ignore[assignment]
    asyncio.run(report.read())
    assert len(report.kinds) <= 33


def test_the_configuration_and_the_options_have_the_same_defaults() -> None:
    assert Options.of(Config()) == Options()
    settings = Cache(prompt_response_ttl_s=60, keep_sampled=("prompt_response",), budget_ms=50)
    options = Options.of(Config(cache=settings))
    assert (options.kinds["prompt_response"], options.budget_s) == (Kind(60, keep_sampled=True), 0.05)
    assert set(COUNTERS) == set(KindStatistics._fields)
