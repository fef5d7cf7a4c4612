"""info: what the nodes write down about their workers, on a real Redis."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from gateway import __version__
from gateway.control import nodes as module
from gateway.control.nodes import GONE_S, STALE_S, Entry, NodeRegistry
from gateway.metrics.names import CHANNELS, CLIENTS, PID, STARTED_S, SUBSCRIPTIONS, USERS
from tests.control.conftest import Control, eventually
from tests.support.redis_server import RedisServer

KEY = "gw:nodes"


def registry(live: Control, node: str, host: str) -> NodeRegistry:
    return live.make_backends(node, host).nodes


async def test_every_worker_of_every_node_is_listed_with_its_numbers(live: Control) -> None:
    for slot, clients in ((0, 7), (1, 9)):
        row = live.start_worker(slot)
        row[STARTED_S] = int(live.clock.time()) - 100
        row[CLIENTS], row[USERS], row[CHANNELS], row[SUBSCRIPTIONS] = clients, 2, 3, 4
    await registry(live, "n2", "web0").renew()
    nodes = (await live.result("info"))["nodes"]
    assert [(node["uid"], node["name"], node["num_clients"]) for node in nodes] == [
        ("n2/edge-1", "web0/edge-1", 7),
        ("n2/edge-2", "web0/edge-2", 9),
        ("n1/edge-1", "web1/edge-1", 7),
        ("n1/edge-2", "web1/edge-2", 9),
    ]
    assert nodes[0] == {
        "uid": "n2/edge-1",
        "name": "web0/edge-1",
        "version": __version__,
        "num_clients": 7,
        "num_subs": 4,
        "num_users": 2,
        "num_channels": 3,
        "uptime": 100,
    }


async def age(redis: Redis, uid: str, seconds: int) -> None:
    """Make an entry older."""
    entry = msgspec.json.decode(await redis.hget(KEY, uid), type=Entry)
    entry.at -= seconds
    await redis.hset(KEY, uid, msgspec.json.encode(entry))


async def test_entries_that_are_not_renewed_do_not_count_and_go(live: Control, redis: Redis) -> None:
    live.start_worker(0)
    await registry(live, "n2", "web2").renew()
    await age(redis, "n2/edge-1", STALE_S + 2)
    assert [node["uid"] for node in (await live.result("info"))["nodes"]] == ["n1/edge-1"]
    assert await redis.hexists(KEY, "n2/edge-1")
    await age(redis, "n2/edge-1", GONE_S)
    assert [node["uid"] for node in (await live.result("info"))["nodes"]] == ["n1/edge-1"]
    assert not await redis.hexists(KEY, "n2/edge-1")
    assert 0 < await redis.ttl(KEY) <= 2 * GONE_S


async def test_what_is_no_entry_goes_too(live: Control, redis: Redis) -> None:
    live.start_worker(0)
    await redis.hset(KEY, mapping={"x": "not JSON", b"\xff": "{}"})
    assert [node["uid"] for node in (await live.result("info"))["nodes"]] == ["n1/edge-1"]
    assert "x" not in [key.decode(errors="replace") for key in await redis.hkeys(KEY)]


async def test_a_worker_that_has_ended_is_not_listed_any_more(live: Control) -> None:
    live.start_worker(0)
    row = live.start_worker(1)
    assert len((await live.result("info"))["nodes"]) == 2
    row[PID] = 0
    assert [node["uid"] for node in (await live.result("info"))["nodes"]] == ["n1/edge-1"]


async def test_a_node_that_stops_takes_its_entries_along(live: Control, redis: Redis) -> None:
    live.start_worker(0)
    other = registry(live, "n2", "web2")
    await other.renew()
    await live.result("info")
    await other.withdraw()
    assert await redis.hkeys(KEY) == [b"n1/edge-1"]


async def test_the_registry_keeps_writing_and_outlives_a_redis_that_is_away(
    live: Control, redis: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.01)
    live.start_worker(0)
    running = asyncio.get_running_loop().create_task(live.backends.nodes.run())
    try:
        await eventually(lambda: redis.exists(KEY), "the node is listed")
        redis_server.kill()
        assert (await live.error("info"))[0] == 100
        redis_server.start()
        await redis.connection_pool.disconnect()
        await eventually(lambda: redis.exists(KEY), "the node is listed again")
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])
