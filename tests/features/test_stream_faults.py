"""Token streams where everything that can happen does: at random, and from the same seeds each time.

The producer's way to Redis loses answers and cuts requests short; watchers leave at any moment, come back behind their
position or from the beginning, on any worker; the answer is begun anew now and then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.streams import Options, StreamCancelled, Streams, StreamSuperseded, StreamWriter
from tests.support.following import Following
from tests.support.gateway import Gateway, serving
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until
from tests.support.watcher import Watcher

OPTIONS = Options(lease_s=5.0, coalesce_s=0.005)
WATCHERS = 6
STEPS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    with serving(
        {
            "server": {"workers": 2},
            "redis": {"url": server.url},
            "streams": {"enabled": True},
            "delivery": {"unsubscribe_delay_s": 0.2},
        }
    ) as gateway:
        yield gateway


@pytest.fixture
async def streams(server: RedisServer, gateway: Gateway) -> AsyncIterator[Streams]:
    async with Streams(server.url, options=OPTIONS) as streams:
        yield streams


@pytest.fixture
async def lossy(server: RedisServer, tmp_path: Path) -> AsyncIterator[LossyProxy]:
    proxy = LossyProxy(tmp_path, server.url, marker=b"append")
    await proxy.start()
    yield proxy
    await proxy.aclose()


async def fidget(watcher: Watcher, chance: random.Random, over: asyncio.Event) -> None:
    """Leave and come back at random moments, until the stream is over."""
    while not over.is_set():
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        watcher.look()
        await watcher.go()
        if chance.random() < 0.2:  # another device, which has nothing yet
            watcher.epoch, watcher.offset, watcher.following = "", 0, Following()
        await watcher.come()


async def tell(writer: StreamWriter, lossy: LossyProxy, chance: random.Random) -> str:
    """Append at random, on a way that fails at random, until every fault has happened; the whole text."""
    whole = ""
    for step in range(STEPS):
        kind = chance.random()
        if kind < 0.15:
            lossy.answers_to_lose += 1
        elif kind < 0.3:
            lossy.cuts.append(chance.randrange(1, 400))
        text = f"{writer.generation[-3:]}.{step}" + chance.choice([" ", ", ", ".\n", " “ü🙂” "])
        whole += text
        await writer.append(text)
        if chance.random() < 0.5:
            seq = writer.seq
            await wait_until(lambda seq=seq: writer.seq > seq, "some of it is there")  # type: ignore[misc]
    while lossy.answers_to_lose or lossy.cuts:
        whole += ".\n"
        await writer.append(".\n")
        await asyncio.sleep(0.01)
    return whole


@pytest.mark.parametrize("seed", range(4))
async def test_random_reconnects_and_retries_neither_lose_nor_double_nor_mix_anything(
    seed: int, gateway: Gateway, lossy: LossyProxy
) -> None:
    """`Following`, in every watcher, fails at the first record that does not go on where the one before ended."""
    chance = random.Random(seed)
    key, over = f"random-{seed}", asyncio.Event()
    watchers = [Watcher(gateway, key, "ada") for _ in range(WATCHERS)]
    async with Streams(lossy.url, options=OPTIONS) as producing:
        with pytest.raises(StreamSuperseded):
            async with producing.open(key, owner="ada", interrupt=False) as first:
                await asyncio.gather(*(watcher.come() for watcher in watchers))
                fidgeting = [
                    asyncio.create_task(fidget(watcher, random.Random(f"{seed}.{number}"), over))
                    for number, watcher in enumerate(watchers)
                ]
                await tell(first, lossy, chance)
                async with producing.open(key, owner="ada", replace=True) as second:
                    expected = await tell(second, lossy, chance)
    assert lossy.broken > 5
    over.set()
    await asyncio.gather(*fidgeting)
    for watcher in watchers:
        if watcher.told:
            await watcher.subscribe()
        await watcher.until(lambda following: following.terminal, "the end")
        assert watcher.following.text == expected
        assert watcher.following.generation == second.generation
        assert all(lost["reason"] == "superseded" for lost in watcher.following.lost)
        await watcher.go()


async def test_a_stream_that_its_last_watcher_has_left_is_given_up_after_the_grace(
    gateway: Gateway, streams: Streams
) -> None:
    watchers = [Watcher(gateway, "grace", "ada") for _ in range(2)]

    async def produce() -> None:
        async with streams.open("grace", owner="ada", abandon_after_s=1.0) as writer:
            await writer.append("is anybody there?")
            await asyncio.Event().wait()

    producing = asyncio.create_task(produce())
    while await streams.status("grace") is None:
        await asyncio.sleep(0.01)
    for watcher in watchers:
        await watcher.come()
    await watchers[0].go()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await wait_until(lambda: producing.done() or loop.time() > begun + 2.5, "longer than the grace")
    assert not producing.done()  # one still watches
    await watchers[1].go()
    with pytest.raises(StreamCancelled):
        await producing
    await watchers[1].come()
    assert (await watchers[1].end()).terminal["reason"] == "nobody watches"  # type: ignore[index]
    await watchers[1].go()


async def test_the_owner_watches_and_cancels_what_no_producer_has_taken_yet(gateway: Gateway, streams: Streams) -> None:
    generation = await streams.register("queued", "ada")
    watcher = Watcher(gateway, "queued", "ada")
    await watcher.come()
    assert watcher.client is not None
    answer = await watcher.client.call(rpc={"method": "stream.cancel", "data": {"stream": "queued"}})
    assert answer["data"] == {"status": "cancelled"}
    assert (await watcher.end()).generation == generation
    with pytest.raises(StreamCancelled):
        async with streams.open("queued", generation=generation):
            raise AssertionError("the model was asked")
    await watcher.go()


async def test_a_redis_that_restarts_in_the_middle_costs_watchers_nothing() -> None:
    with redis_server() as server, serving({"redis": {"url": server.url}, "streams": {"enabled": True}}) as gateway:
        async with Streams(server.url, options=OPTIONS) as streams:
            watcher = Watcher(gateway, "restart", "ada")
            expected = ""
            async with streams.open("restart", owner="ada") as writer:
                await watcher.come()
                for number in range(30):
                    if number == 10:
                        server.kill()  # without its data
                    if number == 15:
                        server.start()
                    expected += f"{number} is a number.\n"
                    await writer.append(f"{number} is a number.\n")
                    await asyncio.sleep(0)
            await wait_until(
                lambda: watcher.look().terminal or watcher.told or watcher.following.lost, "the end, or to be told"
            )
            if watcher.told:
                await watcher.subscribe()
            assert (await watcher.end()).text == expected
            assert watcher.following.lost == []
            await watcher.go()
