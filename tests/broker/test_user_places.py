"""Connections of users in a real Redis: counted in one step, forgotten with their workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.broker import CommandQueue, UserPlaces
from gateway.broker import user_places as module
from gateway.config import Redis as RedisSettings
from gateway.storage.redis import connect
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


class World:
    def __init__(self, url: str, redis: Redis) -> None:
        self.redis = redis
        self._client = connect(RedisSettings(url=url))
        self.queue = CommandQueue(self._client)
        self._running = asyncio.get_running_loop().create_task(self.queue.run())

    def worker(self, place: str, token: str = "t") -> UserPlaces:
        return UserPlaces(self.queue, prefix="gw", place=place, token=token)

    async def members(self, user: str = "ada") -> list[str]:
        return [member.decode() for member in await self.redis.zrange(f"gw:user:{user}", 0, -1)]

    async def next_millisecond(self) -> None:
        """Wait until Redis' clock shows another one."""

        async def millisecond() -> int:
            seconds, microseconds = await self.redis.time()
            return int(seconds) * 1000 + int(microseconds) // 1000

        before = await millisecond()

        async def has_passed() -> bool:
            return await millisecond() > before

        await eventually(has_passed, "a millisecond passes")

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._client.aclose()


@pytest.fixture
async def world(redis_server: RedisServer, redis: Redis) -> AsyncIterator[World]:
    world = World(redis_server.url, redis)
    yield world
    await world.stop()


async def test_there_is_room_up_to_the_limit_whatever_the_worker(world: World) -> None:
    one, two = world.worker("n/1"), world.worker("m/2")
    assert (await one.enter("ada", "a", 2)).admitted
    assert (await two.enter("ada", "b", 2)).admitted
    refused = await one.enter("ada", "c", 2)
    assert not refused.admitted
    assert refused.workers == {"n/1/t", "m/2/t"}
    assert (await one.enter("bob", "d", 2)).admitted
    await two.leave("ada", "b")
    assert (await one.enter("ada", "c", 2)).admitted
    assert await world.members() == ["n/1/t a", "n/1/t c"]
    assert 0 < await world.redis.pttl("gw:user:ada") <= module.PLACES_TTL_S * 1000


async def test_many_at_once_never_are_too_many(world: World) -> None:
    workers = [world.worker(f"n/{number}") for number in range(5)]
    asked = [workers[number % 5].enter("ada", f"c{number}", 7) for number in range(50)]
    assert sum(entered.admitted for entered in await asyncio.gather(*asked)) == 7


async def test_the_oldest_make_room_and_every_worker_is_told(world: World) -> None:
    listener = world.redis.pubsub()
    await listener.subscribe("gw:control")
    assert (await listener.get_message(timeout=20))["type"] == "subscribe"
    one = world.worker("n/1")
    for client in ("b", "a", "c"):
        await one.enter('ada "x"', client, 3)
        await world.next_millisecond()  # the order is that of Redis' milliseconds
    entered = await one.enter('ada "x"', "d", 2, close_oldest=True)
    assert (entered.admitted, entered.closed) == (True, 2)
    told = [json.loads((await listener.get_message(timeout=20))["data"]) for _ in range(2)]
    assert [message.pop("client") for message in told] == ["b", "a"]
    assert told[0] == {"op": "disconnect", "user": 'ada "x"', "code": 3504, "reason": "connection limit"}
    assert await world.members('ada "x"') == ["n/1/t c", "n/1/t d"]
    await listener.aclose()


async def test_a_worker_lives_until_its_lease_is_over_or_another_has_come_to_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORKER_LEASE_S", 0.2)
    short = world.worker("n/2")
    assert await short.live() == {"n/2/t"}
    monkeypatch.setattr(module, "WORKER_LEASE_S", 60)
    first, other = world.worker("n/1", "first"), world.worker("n/10")
    assert await first.live() >= {"n/1/first"}
    assert await other.live() >= {"n/1/first", "n/10/t"}
    second = world.worker("n/1", "second")
    assert "n/1/first" not in await second.live()

    async def only_they_live() -> bool:
        return await other.live() == {"n/1/second", "n/10/t"}

    await eventually(only_they_live, "the short lease is over")


async def test_what_a_dead_worker_has_left_does_not_count(world: World) -> None:
    dead, alive = world.worker("n/1"), world.worker("n/10")
    await dead.enter("ada", "a", 2)
    await alive.enter("ada", "b", 2)
    assert not (await alive.enter("ada", "c", 2)).admitted
    assert (await alive.enter("ada", "c", 2, dead={"n/1/t"})).admitted
    assert await world.members() == ["n/10/t b", "n/10/t c"]


async def test_renewing_brings_back_what_redis_has_lost_and_keeps_the_order(world: World) -> None:
    one = world.worker("n/1")
    await one.enter("ada", "a", 3)
    await world.redis.flushall()
    await one.renew("ada", [("b", 1000.0), ("a", 2000.0)])
    assert await world.members() == ["n/1/t b", "n/1/t a"]
    assert await world.redis.pttl("gw:user:ada") > 0
    await one.renew("ada", [("b", 3000.0)])
    assert await world.members() == ["n/1/t b", "n/1/t a"], "it is as old as it was"


async def test_the_same_client_counts_once(world: World) -> None:
    one = world.worker("n/1")
    for _ in range(3):
        assert (await one.enter("ada", "a", 1)).admitted
