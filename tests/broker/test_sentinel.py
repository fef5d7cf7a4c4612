"""The subscriber and commands behind Sentinels, on real ones: they follow the master."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import redis.asyncio

from gateway.broker import Connection, Subscriber
from gateway.config import Redis
from gateway.errors import BrokerUnavailable
from gateway.storage.endpoint import Endpoint
from loadtest.fleet.sentinels import SERVICE, SentinelFleet
from loadtest.fleet.servers import wait_same
from tests.support.redis_fleet import FLEET_TIMEOUT_S, bring_back, redis_fleet
from tests.support.subscriber import SubscriberWorld
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)


@pytest.fixture(scope="module")
def fleet() -> Iterator[SentinelFleet]:
    with redis_fleet("sentinel") as fleet:
        assert isinstance(fleet, SentinelFleet)
        yield fleet


@pytest.fixture(autouse=True)
async def well(fleet: SentinelFleet) -> None:
    await asyncio.to_thread(bring_back, fleet)


@pytest.fixture
async def world(fleet: SentinelFleet) -> AsyncIterator[SubscriberWorld]:
    world = SubscriberWorld(fleet.url, probe_interval_s=3.0)
    world.start()
    yield world
    await world.stop()


async def test_the_subscriber_follows_the_master(fleet: SentinelFleet, world: SubscriberWorld) -> None:
    await world.happened("connected")
    await world.subscribed(b"a")
    old = fleet.master_of("a")
    assert old.client.publish("a", "1") == 1
    await world.received((b"a", b"1"))  # Redis answers a publisher before it writes to subscribers
    old.kill()
    new = await asyncio.to_thread(fleet.wait_failed_over, "a", old)
    await world.happened("connected", "lost", "connected")
    assert world.missed == [{b"a"}]
    assert new.client.publish("a", "2") == 1
    await world.received((b"a", b"1"), (b"a", b"2"))


async def test_commands_follow_the_master_and_are_not_sent_again(fleet: SentinelFleet) -> None:
    connection = Connection(Redis(url=fleet.url, connect_timeout_s=1.0))
    queue = connection.queue()
    running = asyncio.create_task(queue.run())
    old = fleet.master_of("")
    assert await queue.submit("INCR", "count") == 1
    await asyncio.to_thread(wait_same, old, fleet.replica_of(old))
    old.kill()
    with pytest.raises(BrokerUnavailable):
        await queue.submit("INCR", "count")
    await asyncio.to_thread(fleet.wait_failed_over, "", old)

    async def counted() -> int:
        with contextlib.suppress(BrokerUnavailable):
            return int(await queue.submit("INCR", "count"))
        return 0

    assert await eventually(counted, "the new master answers") == 2
    running.cancel()
    await asyncio.wait((running,))
    await connection.aclose()


async def asked_for_its_role(server: redis.asyncio.Redis) -> int:
    stats = await server.info("commandstats")
    return int(stats.get("cmdstat_role", {"calls": 0})["calls"])


async def test_a_server_that_is_no_master_is_not_subscribed_to(fleet: SentinelFleet) -> None:
    """A Sentinel may not know yet that its master is one no more."""
    master = fleet.master_of("")
    endpoint = Endpoint(host="127.0.0.1", port=fleet.replica_of(master).port)
    for must_be_master, events in ((True, []), (False, ["connected"])):
        world = SubscriberWorld(fleet.url)
        world.subscriber = Subscriber(
            msgspec.structs.replace(endpoint, must_be_master=must_be_master),
            connect_timeout_s=5.0,
            probe_interval_s=5.0,
            random=lambda: 0.02,
        )
        replica = redis.asyncio.Redis(host=endpoint.host, port=endpoint.port)
        before = await asked_for_its_role(replica)
        world.start()
        if must_be_master:

            async def tried_again(replica: redis.asyncio.Redis = replica, enough: int = before + 3) -> bool:
                return await asked_for_its_role(replica) >= enough

            await eventually(tried_again, "it is asked again and again")
        else:
            await wait_until(lambda world=world: world.events, "it is connected")
        assert world.events == events
        await world.stop()
        await replica.aclose()


async def test_sentinels_that_are_dead_are_passed_over(fleet: SentinelFleet) -> None:
    alive = fleet.url.partition("://")[2].partition(",")[0]
    world = SubscriberWorld(f"redis+sentinel://127.0.0.1:1,127.0.0.1:2,{alive}/{SERVICE}")
    world.start()
    await world.happened("connected")
    await world.stop()
