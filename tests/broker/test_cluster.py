"""Commands and subscriptions on a real cluster of three masters: slots that move, servers that are silent or dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot

from gateway.broker import ChannelLog, CommandQueue, Connection, keep_functions
from gateway.broker.cluster_subscriber import ClusterSubscriber
from gateway.config import Redis
from gateway.errors import BrokerRefused, BrokerUnavailable
from loadtest.fleet.cluster import ClusterFleet
from protocol.redis_contract import Metadata, control_channel, log_key, publish_channel
from tests.support.redis_fleet import FLEET_TIMEOUT_S, bring_back, redis_fleet
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)

CHANNELS = [f"channel-{number}" for number in range(12)]
UNDER_WAY = 64
"""Commands that are sent before the first of them is answered."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[ClusterFleet]:
    with redis_fleet("cluster") as fleet:
        assert isinstance(fleet, ClusterFleet)
        yield fleet


class Heard:
    """A listener that keeps what it is told (`gateway.broker.SubscriberListener`)."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.confirmed: list[bytes] = []
        self.missed: set[bytes] = set()
        self.states: list[bool] = []

    def message_received(self, channel: bytes, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def subscriber_connected(self) -> None:
        self.states.append(True)

    def subscriber_lost(self, reason: str) -> None:
        self.states.append(False)

    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None:
        assert deaf_s >= 0
        self.missed |= set(channels)

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        assert error is None
        self.confirmed.append(channel)


class World:
    """A queue and a subscriber of one process."""

    def __init__(self, url: str) -> None:
        self.settings = Redis(url=url, connect_timeout_s=1.0, probe_interval_s=3.0)
        self.connection = Connection(self.settings)
        self.queue: CommandQueue = self.connection.queue()
        subscriber = self.connection.subscriber(random=lambda: 0.02)
        assert isinstance(subscriber, ClusterSubscriber)
        self.subscriber = subscriber
        self.heard = Heard()
        self.log = ChannelLog(self.queue, self.queue, prefix=self.settings.prefix)

    def name(self, channel: str) -> bytes:
        return publish_channel(self.settings.prefix, channel)

    async def subscribed(self, *channels: bytes) -> None:
        before = len(self.heard.confirmed)
        for channel in channels:
            assert self.subscriber.subscribe(channel)
        await wait_until(lambda: len(self.heard.confirmed) >= before + len(channels), f"{channels!r:.80} are confirmed")

    async def reaches(self, channel: str, payload: bytes) -> None:
        """Publish until it is heard: a server may just have gone, or take it although another has its place."""
        name = self.name(channel)

        async def heard() -> bool:
            with contextlib.suppress(BrokerUnavailable):
                await self.queue.publish(name, payload)
            return (name, payload) in self.heard.messages

        await eventually(heard, f"{payload!r} arrives")


@pytest.fixture
async def world(fleet: ClusterFleet) -> AsyncIterator[World]:
    await asyncio.to_thread(bring_back, fleet)
    world = World(fleet.url)
    tasks = [
        asyncio.get_running_loop().create_task(part) for part in (world.queue.run(), world.subscriber.run(world.heard))
    ]
    await wait_until(lambda: world.subscriber.connected, "every master is connected")
    yield world
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.wait(tasks)
    await world.connection.aclose()


async def test_commands_and_publications_find_the_master_of_their_slot(world: World) -> None:
    await world.subscribed(*map(world.name, CHANNELS), control_channel("gw"))
    assert await asyncio.gather(*(world.queue.publish(world.name(each), b"1") for each in CHANNELS)) == [1] * 12
    assert await world.queue.publish(control_channel("gw"), b"2") == 1
    published = await asyncio.gather(
        *(world.log.append(each, b"3", Metadata(), size=10, ttl_s=60, key="k") for each in CHANNELS)
    )
    assert [each.position.offset for each in published] == [1] * 12
    await wait_until(lambda: len(world.heard.messages) == 25, "everything is heard")
    assert (control_channel("gw"), b"2") in world.heard.messages
    for each in CHANNELS:
        assert [publication.offset for publication in (await world.log.read(each, after=0, limit=5)).publications] == [
            1
        ]


async def test_what_is_unsubscribed_gives_no_more_messages(world: World) -> None:
    await world.subscribed(world.name("stays"), world.name("goes"))
    world.subscriber.unsubscribe(world.name("goes"))
    while await world.queue.publish(world.name("goes"), b"1"):
        pass
    heard = len(world.heard.messages)
    assert await world.queue.publish(world.name("stays"), b"2") == 1
    await wait_until(lambda: len(world.heard.messages) == heard + 1, "the other one is heard")
    assert world.subscriber.wanted == 1


async def test_commands_keep_their_order_while_their_slot_moves(world: World, fleet: ClusterFleet) -> None:
    name = world.name("ordered")
    await world.queue.submit("RPUSH", "{ordered}", 0)
    moving = asyncio.create_task(asyncio.to_thread(fleet.move_slot, "ordered"))
    sent: list[asyncio.Future[int]] = []
    while not moving.done() or len(sent) < 200:
        sent.append(world.queue.submit("RPUSH", "{ordered}", len(sent) + 1))
        if len(sent) > UNDER_WAY:
            await sent[-UNDER_WAY]
    await moving
    await asyncio.gather(*sent)
    assert key_slot(name) == key_slot(b"{ordered}")
    listed = await world.queue.submit("LRANGE", "{ordered}", 0, -1)
    assert [int(each) for each in listed] == list(range(len(sent) + 1))


async def test_a_channel_whose_slot_moves_is_heard_at_the_new_master_and_reported(
    world: World, fleet: ClusterFleet
) -> None:
    await world.subscribed(world.name("moves"), world.name("stays"))
    await asyncio.to_thread(fleet.move_slot, "moves")
    # Once or more: while the servers do not agree yet, it may come back to the old master and leave it again.
    await wait_until(lambda: world.heard.confirmed.count(world.name("moves")) >= 2, "it is confirmed anew")
    await wait_until(lambda: world.heard.missed == {world.name("moves")}, "and reported")
    await world.reaches("moves", b"1")
    assert world.heard.states == [True]


async def test_a_key_that_is_on_its_way_is_followed(world: World, fleet: ClusterFleet) -> None:
    """ASK: the slot is being moved, the key has gone already, and nobody says so for good yet."""
    await world.queue.submit("SET", "{asked}", "1")
    slot, source = key_slot(b"asked"), fleet.master_of("asked")
    target = next(each for each in fleet.servers if each is not source and each.info("replication")["role"] == "master")
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", fleet.id_of(source))
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", fleet.id_of(target))
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", "{asked}")
    assert await world.queue.submit("GET", "{asked}") == b"1"
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", fleet.id_of(target))
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", fleet.id_of(target))
    assert await world.queue.submit("GET", "{asked}") == b"1"


async def test_functions_are_loaded_on_every_master(world: World, fleet: ClusterFleet) -> None:
    keeping = asyncio.create_task(keep_functions(world.queue))
    masters = [each for each in fleet.servers if each.info("replication")["role"] == "master"]
    for master in masters:
        await wait_until(lambda master=master: master.client.function_list("gw"), "the function is there")
    keeping.cancel()
    channel = CHANNELS[0]
    names = (log_key(world.settings.prefix, channel), b"gw:meta:{%b}" % channel.encode(), world.name(channel))
    words = ('"from a backend"', "-", 10, 60_000, 600_000, "epoch", 1000, 0, "")
    offset, _, fresh = fleet.master_of(channel).client.fcall("gw_publish", 2, *names, *words)
    assert (offset, fresh) == (2, 1)


async def test_a_silent_master_holds_up_no_channel_of_the_others(
    world: World, fleet: ClusterFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = fleet.master_of(CHANNELS[0])
    other = next(each for each in CHANNELS if fleet.master_of(each) is not silent)
    await world.subscribed(world.name(CHANNELS[0]), world.name(other))
    silent.freeze()
    try:
        waits = world.queue.publish(world.name(CHANNELS[0]), b"lost")
        for number in range(20):
            assert await world.queue.publish(world.name(other), b"%d" % number) == 1
        assert not waits.done()
        with pytest.raises(BrokerUnavailable):
            await waits
        await asyncio.to_thread(fleet.wait_failed_over, CHANNELS[0], silent)
    finally:
        silent.thaw()
    await world.reaches(CHANNELS[0], b"after")
    # Perhaps a moment later: the master that was silent may have delivered that before it learned of its successor.
    await wait_until(lambda: world.name(CHANNELS[0]) in world.heard.missed, "it is reported")
    await wait_until(lambda: world.heard.states[-1], "everything is connected again")


async def test_a_master_that_dies_is_replaced(world: World, fleet: ClusterFleet) -> None:
    await world.subscribed(*map(world.name, CHANNELS))
    dies = fleet.master_of(CHANNELS[1])
    gone = {world.name(each) for each in CHANNELS if fleet.master_of(each) is dies}
    world.heard.confirmed.clear()
    dies.kill()
    await wait_until(lambda: world.heard.states == [True, False], "it is missed")
    await asyncio.to_thread(fleet.wait_failed_over, CHANNELS[1], dies)
    await wait_until(lambda: world.heard.states == [True, False, True], "its successor is connected")
    await wait_until(lambda: world.heard.missed == gone, "its channels are reported, and no others")
    assert gone <= set(world.heard.confirmed)
    for each in CHANNELS:
        await world.reaches(each, b"after")


@pytest.mark.parametrize(
    "raised",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed"),
    ],
    ids=["no writer", "closed transport"],
)
async def test_a_connection_that_is_closed_before_it_is_written_to_fails_only_what_it_would_have_carried(
    world: World, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    await world.queue.submit("SET", "key", "1")
    send = AbstractConnection.send_packed_command

    async def closed(*_: object, **__: object) -> None:
        monkeypatch.setattr(AbstractConnection, "send_packed_command", send)
        raise raised  # as redis-py lets it through

    monkeypatch.setattr(AbstractConnection, "send_packed_command", closed)
    with pytest.raises(BrokerUnavailable, match="closed"):
        await world.queue.submit("SET", "key", "2")
    assert await world.queue.submit("GET", "key") == b"1"


async def test_a_queue_that_is_cancelled_ends_wherever_its_lanes_are(world: World) -> None:
    """Libraries may lose a cancellation: at each step of a round trip a lane has to notice."""
    for steps in range(1, 30):
        queue = world.connection.queue()
        running = asyncio.create_task(queue.run())
        asked = asyncio.ensure_future(queue.submit("SET", "{steps}", steps))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,), timeout=10)
        assert running.cancelled(), f"it goes on when it is cancelled after {steps} steps"
        await asyncio.wait((asked,))


async def test_a_cluster_that_is_not_there_fails_what_waits() -> None:
    world = World("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    running = asyncio.create_task(world.queue.run())
    waits = [world.queue.submit("GET", "a"), world.queue.submit("FUNCTION", "LIST"), world.queue.submit("TIME")]
    for each in waits:
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:2"):
            await each
    running.cancel()
    await asyncio.wait((running,))
    await world.connection.aclose()
