"""Presence in a real Redis: leases, joins and leaves, and what happens to them when workers or Redis go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw
from redis.asyncio import Redis

from gateway.broker import CommandQueue, PresenceStore
from gateway.broker import presence as module
from gateway.config import Redis as RedisSettings
from gateway.errors import BrokerError, BrokerUnavailable
from gateway.storage.redis import connect
from protocol.replies import ClientInfo
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

KEYS = ("gw:presence:room", "gw:presence-at:room", "gw:presence-users:room")
LEASE_S = 60.0


def info(client: str, user: str = "ada", **more: Any) -> ClientInfo:
    return ClientInfo(user=user, client=client, **more)


def entries(*clients: str, user: str = "ada") -> dict[str, ClientInfo]:
    return {client: info(client, user) for client in clients}


class World:
    """A store, as one worker has it, and what subscribers of the channel `room` hear."""

    def __init__(self, url: str, redis: Redis) -> None:
        self.redis = redis
        self._client = connect(RedisSettings(url=url))
        self.queue = CommandQueue(self._client)
        self.store = self.other(LEASE_S)
        self._running = asyncio.get_running_loop().create_task(self.queue.run())
        self._listener = redis.pubsub()

    def other(self, lease_s: float) -> PresenceStore:
        return PresenceStore(self.queue, prefix="gw", lease_s=lease_s)

    async def listen(self) -> None:
        await self._listener.subscribe("gw:pub:room")
        assert (await self._listener.get_message(timeout=20))["type"] == "subscribe"

    async def heard(self) -> list[str]:
        """Joins and leaves since the last call, as `join a`."""
        await self.redis.publish("gw:pub:room", "end")
        found = []
        while (message := await self._listener.get_message(timeout=20))["data"] != b"end":
            event, _, document = message["data"].decode().partition(" ")
            found.append(f"{event.removeprefix('@')} {document.split(chr(34))[7]}")
        return found

    async def present(self) -> dict[str, str]:
        """Client → user."""
        found: dict[str, str] = {}
        async for chunk in self.store.read("room"):
            found |= {client: each.user for client, each in chunk}
        return found

    async def age(self, seconds: float, *clients: str) -> None:
        """Let the leases of `clients` run out so much earlier; all when there are none."""
        for client, end in await self.redis.zrange(KEYS[1], 0, -1, withscores=True):
            if end > 0 and (not clients or client.decode() in clients):
                await self.redis.zadd(KEYS[1], {client: end - seconds * 1000})

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._listener.aclose()
        await self._client.aclose()


@pytest.fixture
async def world(redis_server: RedisServer, redis: Redis) -> AsyncIterator[World]:
    world = World(redis_server.url, redis)
    await world.listen()
    yield world
    await world.stop()


async def test_clients_enter_and_leave_and_are_told_of_once(world: World) -> None:
    store = world.store
    await store.enter("room", entries("a", "b"), tell=True)
    await store.enter("room", entries("b", "c"), tell=True)
    assert await world.present() == {"a": "ada", "b": "ada", "c": "ada"}
    await store.leave("room", entries("a", "x"), tell=True)
    assert await world.present() == {"b": "ada", "c": "ada"}
    assert await world.heard() == ["join a", "join b", "join c", "leave a", "leave x"]
    await store.leave("room", {"y": None, "b": None}, tell=True)
    assert await world.heard() == ["leave b"]


async def test_what_is_told_is_the_information_about_the_client(world: World) -> None:
    ada = info("a", 'Adä "quoted","client":"x" \n', conn_info=Raw(b'{"n":[1]}'), chan_info=Raw(b'"c"'))
    await world.store.enter("room", {"a": ada}, tell=True)
    await world.store.leave("room", {"a": info("a")}, tell=True)
    listener = world._listener
    user = r"Adä \"quoted\",\"client\":\"x\" \n"
    document = f'{{"user":"{user}","client":"a","conn_info":{{"n":[1]}},"chan_info":"c"}}'.encode()
    assert (await listener.get_message(timeout=20))["data"] == b"@join " + document
    assert (await listener.get_message(timeout=20))["data"] == b"@leave " + document
    assert await world.redis.exists(*KEYS) == 0


async def test_nobody_is_told_when_nobody_wants_to_know(world: World) -> None:
    await world.store.enter("room", entries("a", "b"), tell=False)
    await world.age(2 * LEASE_S, "b")
    await world.store.renew("room", ["a"], tell=False)
    await world.store.leave("room", entries("a"), tell=False)
    assert await world.present() == {}
    assert await world.heard() == []


async def test_tabs_of_one_user_are_several_clients_and_one_user(world: World) -> None:
    store = world.store
    await store.enter("room", entries("tab1", "tab2"), tell=False)
    await store.enter("room", entries("c", user="bob"), tell=False)
    await store.enter("room", entries("d", "e", user=""), tell=False)
    assert await store.stats("room") == (5, 3)
    await store.leave("room", entries("tab1"), tell=False)
    assert await store.stats("room") == (4, 3)
    await store.leave("room", entries("tab2"), tell=False)
    await store.leave("room", entries("tab2"), tell=False)
    assert await store.stats("room") == (3, 2)
    assert await store.stats("nowhere") == (0, 0)


async def test_channels_have_nothing_to_do_with_each_other(world: World) -> None:
    await world.store.enter("room", entries("a"), tell=True)
    await world.store.enter("other", entries("a"), tell=True)
    await world.store.leave("other", entries("a"), tell=True)
    assert await world.present() == {"a": "ada"}
    assert await world.heard() == ["join a"]


async def test_new_information_replaces_the_old_without_a_join(world: World) -> None:
    await world.store.enter("room", entries("a"), tell=True)
    await world.store.restore("room", {"a": info("a", conn_info=Raw(b"7"))}, tell=True)
    assert [chunk async for chunk in world.store.read("room")] == [[("a", info("a", conn_info=Raw(b"7")))]]
    assert await world.store.stats("room") == (1, 1)
    assert await world.heard() == ["join a"]


async def test_deeply_nested_information_does_not_disturb_the_count_of_users(world: World) -> None:
    deep = Raw(b"[" * 5000 + b"]" * 5000)
    await world.store.enter("room", {"a": info("a", conn_info=deep)}, tell=False)
    assert await world.store.stats("room") == (1, 1)
    await world.store.leave("room", {"a": None}, tell=False)
    assert await world.store.stats("room") == (0, 0)


# Leases.


async def test_a_lease_that_runs_out_is_ended_by_the_renewal_of_another_worker(world: World) -> None:
    store = world.store
    await store.enter("room", entries("a", "b", "c"), tell=True)
    await world.age(2 * LEASE_S, "b", "c")
    assert await store.renew("room", ["a"], tell=True) == []
    assert await world.present() == {"a": "ada"}
    assert await store.stats("room") == (1, 1)
    assert sorted((await world.heard())[3:]) == ["leave b", "leave c"]


async def test_who_is_renewed_stays(world: World) -> None:
    store = world.store
    await store.enter("room", entries("a", "b"), tell=True)
    for _ in range(5):
        await world.age(LEASE_S / 3)
        assert await store.renew("room", ["a", "b"], tell=True) == []
    assert await world.heard() == ["join a", "join b"]


async def test_who_was_taken_for_dead_and_is_not_joins_again(world: World) -> None:
    """A worker that stood still for longer than a lease."""
    store = world.store
    await store.enter("room", entries("a", "b"), tell=True)
    await world.age(2 * LEASE_S, "b")
    await store.renew("room", ["a"], tell=True)
    assert await store.renew("room", ["b"], tell=True) == ["b"]
    await store.restore("room", entries("b"), tell=True)
    await store.restore("room", entries("b"), tell=True)
    assert await world.present() == {"a": "ada", "b": "ada"}
    assert await world.heard() == ["join a", "join b", "leave b", "join b"]


async def test_who_was_taken_for_dead_leaves_once(world: World) -> None:
    store = world.store
    await store.enter("room", entries("a", "b"), tell=True)
    await world.age(2 * LEASE_S, "b")
    await store.renew("room", ["a"], tell=True)
    await store.leave("room", entries("b"), tell=True)
    assert await world.heard() == ["join a", "join b", "leave b"]


async def test_at_most_a_thousand_leases_are_ended_at_once(world: World) -> None:
    store = world.store
    many = [f"c{number}" for number in range(1500)]
    for start in range(0, 1500, 500):
        await store.enter("room", entries(*many[start : start + 500]), tell=True)
    await store.enter("room", entries("a"), tell=True)
    pipeline = world.redis.pipeline()
    pipeline.zadd(KEYS[1], dict.fromkeys(many, 1.0))
    await pipeline.execute()
    await store.renew("room", ["a"], tell=True)
    assert await store.stats("room") == (501, 1)
    await store.renew("room", ["a"], tell=True)
    assert await world.present() == {"a": "ada"}
    heard = await world.heard()
    assert len(heard) == 1501 + 1500


async def test_a_channel_that_nobody_renews_is_gone_without_a_word(world: World) -> None:
    short = world.other(0.2)
    await short.enter("room", entries("a"), tell=True)
    assert await world.present() == {"a": "ada"}

    async def gone() -> bool:
        return bool(await world.redis.exists(*KEYS) == 0)

    await eventually(gone, "its keys are gone")
    assert await world.heard() == ["join a"]


async def test_every_key_lives_for_one_lease_from_the_last_renewal(world: World) -> None:
    await world.store.enter("room", entries("a"), tell=False)
    for key in KEYS:
        await world.redis.expire(key, 1)
    await world.store.renew("room", ["a"], tell=False)
    for key in KEYS:
        assert LEASE_S - 20 < await world.redis.ttl(key) <= LEASE_S


# Redis goes away.


async def test_what_redis_has_lost_is_restored_without_a_join_by_each_worker(world: World) -> None:
    store = world.store
    await store.enter("room", entries("a", "b"), tell=True)
    await world.redis.flushall()
    assert await store.renew("room", ["a"], tell=True) == ["a"]
    await store.restore("room", entries("a"), tell=True)
    assert await store.renew("room", ["b"], tell=True) == ["b"]
    await store.restore("room", entries("b"), tell=True)
    assert await world.present() == {"a": "ada", "b": "ada"}
    assert await store.stats("room") == (2, 1)
    assert await world.heard() == ["join a", "join b"]


@pytest.mark.parametrize("lost", [*([key] for key in KEYS), KEYS[:2], KEYS[1:]], ids=str)
async def test_what_redis_has_evicted_in_part_is_restored_whole(world: World, lost: list[str]) -> None:
    store = world.store
    await store.enter("room", entries("a", "dead"), tell=True)
    await world.redis.delete(*lost)
    assert await store.renew("room", ["a"], tell=True) == ["a"]
    await store.restore("room", entries("a"), tell=True)
    assert await world.present() == {"a": "ada"}
    assert await store.stats("room") == (1, 1)
    assert await world.heard() == ["join a", "join dead"]


@pytest.mark.parametrize("first", ["renew", "enter"])
async def test_the_first_worker_after_an_outage_ends_nobody_else(world: World, first: str) -> None:
    """Leases ran out because nobody could renew them: everyone has half a lease to do so."""
    store = world.store
    await store.enter("room", entries("a", "b"), tell=True)
    await world.age(0.9 * LEASE_S, "a")
    await world.age(1.1 * LEASE_S, "b")
    if first == "enter":
        await store.enter("room", entries("new"), tell=True)
    await store.renew("room", ["a"], tell=True)
    await store.renew("room", ["a"], tell=True)
    assert await store.renew("room", ["b"], tell=True) == []
    assert {"a", "b"} <= (await world.present()).keys()
    assert not [each for each in await world.heard() if each.startswith("leave")]


async def test_who_does_not_come_back_after_an_outage_leaves_later(world: World) -> None:
    short = world.other(0.6)
    await short.enter("room", entries("a", "b"), tell=True)
    await world.age(0.55, "a")
    await world.age(0.7, "b")
    await short.renew("room", ["a"], tell=True)
    assert await world.heard() == ["join a", "join b"]

    async def alone() -> bool:
        await short.renew("room", ["a"], tell=True)
        return list(await world.present()) == ["a"]

    await eventually(alone, "the other one has left")
    assert await world.heard() == ["leave b"]


async def test_without_redis_everything_fails_and_nothing_hangs(world: World, redis_server: RedisServer) -> None:
    redis_server.kill()
    store = world.store
    for done in (
        store.enter("room", entries("a"), tell=True),
        store.renew("room", ["a"], tell=True),
        store.leave("room", entries("a"), tell=True),
        store.stats("room"),
    ):
        with pytest.raises(BrokerUnavailable):
            await done
    with pytest.raises(BrokerError):
        await world.present()


async def test_the_script_is_sent_again_to_a_redis_that_has_forgotten_it(world: World) -> None:
    await world.store.enter("room", entries("a"), tell=False)
    await world.redis.script_flush()
    await world.store.enter("room", entries("b"), tell=False)
    assert await world.store.stats("room") == (2, 1)


# Reading.


async def test_a_large_channel_is_read_in_chunks(world: World) -> None:
    count = 3456
    for start in range(0, count, 500):
        some = entries(*(f"c{number}" for number in range(start, min(count, start + 500))))
        await world.store.enter("room", some, tell=False)
    chunks = [chunk async for chunk in world.store.read("room")]
    assert len({client for chunk in chunks for client, _ in chunk}) == count
    assert max(map(len, chunks)) <= module.CHUNK
    assert len(chunks) >= 4


async def test_what_redis_keeps_in_one_piece_is_given_in_chunks_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    await world.store.enter("room", entries("a", "b", "c", "d", "e"), tell=False)
    chunks = [chunk async for chunk in world.store.read("room")]
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]


async def test_an_empty_channel_has_no_chunks(world: World) -> None:
    assert [chunk async for chunk in world.store.read("room")] == []
