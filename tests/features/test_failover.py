"""The master dies while publications flow: channels with history lose nothing, for others the gateway says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.errors import PublishFailed
from gateway.publisher import AsyncPublisher, History
from loadtest.fleet.cluster import ClusterFleet
from loadtest.fleet.servers import wait_same
from tests.features.conftest import OpenClient
from tests.support.gateway import Gateway, serving
from tests.support.redis_fleet import FLEET_TIMEOUT_S, RedisFleet, bring_back, redis_fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)

CONFIG: dict[str, Any] = {
    "namespaces": {"kept": {"history_size": 1000, "history_ttl_s": 300, "recover": True}},
}
TIMES = {"connect_timeout_s": 1.0, "probe_interval_s": 1.0, "canary_interval_s": 0.2}
HISTORY = {"default": None, "kept": History(1000, 300)}


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisFleet]:
    with redis_fleet(request.param) as redis:
        yield redis


@pytest.fixture(scope="module")
def gateway(redis: RedisFleet) -> Iterator[Gateway]:
    with serving(CONFIG | {"redis": {"url": redis.url} | TIMES}) as gateway:
        yield gateway


@pytest.fixture
async def well(redis: RedisFleet) -> None:
    await asyncio.to_thread(bring_back, redis)


@pytest.mark.usefixtures("well")
async def test_a_killed_master_costs_channels_with_history_nothing_and_others_are_reported(
    redis: RedisFleet, gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    position = await client.subscribe("kept:a")
    await client.subscribe("news")
    async with AsyncPublisher(redis.url, namespaces=HISTORY, retry_for_s=120) as publisher:
        accepted = 0
        over = asyncio.Event()

        async def publish() -> None:
            nonlocal accepted
            while not over.is_set():
                await publisher.publish("kept:a", accepted + 1)
                accepted += 1

        publishing = asyncio.create_task(publish())
        await wait_until(lambda: accepted > 100, "publications flow")
        old = redis.master_of("kept:a")
        old.kill()
        await asyncio.to_thread(redis.wait_failed_over, "kept:a", old)
        at_fail_over = accepted
        await wait_until(lambda: accepted > at_fail_over + 100, "publications flow again")
        over.set()
        await publishing
        await client.wait(lambda: client.data("kept:a")[-1] == accepted, "the last one arrives")
        assert client.data("kept:a") == list(range(1, accepted + 1))
        assert [each["offset"] for each in client.publications("kept:a")] == [
            position.get("offset", 0) + number for number in range(1, accepted + 1)
        ]
        await publisher.publish("news", "after")
        await client.wait(lambda: "after" in client.data("news"), "also without history")
    await wait_until(lambda: gateway.logged("publications may be lost"), "the gateway says so")
    await wait_until(lambda: gateway.metric("gateway_possible_losses_total") >= 1, "and counts it")
    assert client.open_still


@pytest.mark.usefixtures("well")
async def test_what_a_replica_lacked_is_told(redis: RedisFleet, gateway: Gateway, open_client: OpenClient) -> None:
    """Writes that the master had confirmed and not passed on: subscribers learn that their position is no more."""
    client = await open_client("bob")
    await client.subscribe("kept:b")
    async with AsyncPublisher(redis.url, namespaces=HISTORY, retry_for_s=120) as publisher:
        await publisher.publish("kept:b", "both have it")
        master = redis.master_of("kept:b")
        replica = redis.replica_of(master)
        await asyncio.to_thread(wait_same, master, replica)
        replica.freeze()
        master.client.client_kill_filter(_type="replica")  # else the write waits in the replica's socket
        ahead = await publisher.publish("kept:b", "the master has it")
        assert ahead is not None
        assert await client.wait_data("kept:b", 2) == ["both have it", "the master has it"]
        master.kill()
        replica.thaw()
        await asyncio.to_thread(redis.wait_failed_over, "kept:b", master)

        def told() -> bool:
            return any(push.get("unsubscribe", {}).get("code") == 2500 for push in client.pushes)

        await client.wait(told, "the subscriber is told")
        back = await client.subscribe("kept:b", recover=True, epoch=ahead.epoch, offset=ahead.offset)
        assert "recovered" not in back
        assert back["epoch"] != ahead.epoch


@pytest.mark.usefixtures("well")
@pytest.mark.parametrize("redis", ["cluster"], indirect=True)
async def test_a_slot_that_moves_while_publications_flow_costs_channels_with_history_nothing(
    redis: RedisFleet, gateway: Gateway, open_client: OpenClient
) -> None:
    assert isinstance(redis, ClusterFleet)
    client = await open_client("eve")
    await client.subscribe("kept:m")
    accepted = 0
    async with AsyncPublisher(redis.url, namespaces=HISTORY, retry_for_s=120) as publisher:
        over = asyncio.Event()

        async def publish() -> None:
            nonlocal accepted
            while not over.is_set():
                await publisher.publish("kept:m", accepted + 1)
                accepted += 1

        publishing = asyncio.create_task(publish())
        for _ in range(2):
            seen = accepted
            await wait_until(lambda seen=seen: accepted > seen + 50, "publications flow")
            await asyncio.to_thread(redis.move_slot, "kept:m")
        seen = accepted
        await wait_until(lambda: accepted > seen + 50, "publications flow again")
        over.set()
        await publishing
    await client.wait(lambda: client.data("kept:m")[-1] == accepted, "the last one arrives")
    assert client.data("kept:m") == list(range(1, accepted + 1))


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1/nobody", "redis+cluster://127.0.0.1:1"])
async def test_nobody_there_is_said(url: str) -> None:
    async with AsyncPublisher(url, retry_for_s=0.1) as lonely:
        with pytest.raises(PublishFailed, match=r"127\.0\.0\.1:1"):
            await lonely.publish("news", 1)
