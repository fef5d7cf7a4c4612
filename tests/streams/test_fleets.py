"""Token streams on a master that Sentinels name, and on a cluster, where each group of streams has its own slot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis.asyncio

from gateway.broker import Connection, StreamStore
from gateway.config import Redis
from gateway.errors import ConfigError
from gateway.storage.redis import connect
from gateway.streams import Options, StreamCancelled, Streams
from gateway.streams.reaper import Reaper
from loadtest.fleet.cluster import ClusterFleet
from protocol.redis_contract import STREAM_PARTS, streams_key, streams_keys
from tests.streams.conftest import OPTIONS
from tests.streams.test_reader import records, text_of
from tests.support.redis_fleet import FLEET_TIMEOUT_S, RedisFleet, redis_fleet

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)

KEYS = [f"answer-{number}" for number in range(40)]


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def fleet(request: pytest.FixtureRequest) -> Iterator[RedisFleet]:
    with redis_fleet(request.param) as fleet:
        yield fleet


async def test_streams_of_all_groups_are_written_read_and_cancelled(fleet: RedisFleet) -> None:
    prefix = Redis(url=fleet.url).prefix
    parts = STREAM_PARTS if isinstance(fleet, ClusterFleet) else 1
    assert len({streams_key(prefix, key) for key in KEYS}) == len(streams_keys(prefix)) == parts
    async with Streams(fleet.url, options=OPTIONS) as producer, Streams(fleet.url, options=OPTIONS) as other:

        async def produce(key: str) -> None:
            async with producer.open(key) as writer:
                for number in range(5):
                    await writer.append(f"{number}.\n")

        reading = [asyncio.create_task(records(other, key)) for key in KEYS[:4]]
        await asyncio.gather(*map(produce, KEYS))
        for key in KEYS:
            assert text_of(await records(other, key)) == "0.\n1.\n2.\n3.\n4.\n"
        for task in reading:
            await task

        began = asyncio.Event()

        async def produce_for_ever() -> None:
            async with producer.open("endless") as writer:
                while True:
                    await writer.append("on and on.\n")
                    began.set()
                    await asyncio.sleep(0.01)

        producing = asyncio.create_task(produce_for_ever())
        await began.wait()
        assert await other.cancel("endless")
        with pytest.raises(StreamCancelled):
            await producing


async def test_the_reaper_finds_dead_producers_in_all_groups(fleet: RedisFleet) -> None:
    settings = Redis(url=fleet.url)
    connection = Connection(settings)
    queue = connection.queue()
    running = asyncio.create_task(queue.run())
    store = StreamStore(queue, queue, prefix=settings.prefix)
    life = Options(lease_s=0.1).life()
    for key in KEYS:
        assert (await store.open(key, f"dead-{key}", "", life, "replace")).name == "ok"
    reaping = asyncio.create_task(Reaper(store, interval_s=0.05).run())
    async with Streams(fleet.url) as streams:
        for key in KEYS:

            async def failed(key: str = key) -> bool:
                status = await streams.status(key)
                return status is not None and status.status == "failed"

            while not await failed():
                await asyncio.sleep(0.02)
    for task in (reaping, running):
        task.cancel()
    await asyncio.wait((reaping, running))
    await connection.aclose()


async def test_a_client_of_redis_py_for_a_cluster_is_refused_with_what_to_do() -> None:
    client = redis.asyncio.RedisCluster.__new__(redis.asyncio.RedisCluster)
    with pytest.raises(ConfigError, match="give its URL"):
        Streams(client)


@pytest.mark.parametrize("fleet", ["sentinel"], indirect=True)
async def test_a_client_of_redis_py_that_asks_sentinels_will_do(fleet: RedisFleet) -> None:
    client = connect(Redis(url=fleet.url))
    async with Streams(client) as streams:
        async with streams.open("given") as writer:
            await writer.append("text")
        assert text_of(await records(streams, "given")) == "text"
    await client.aclose()
