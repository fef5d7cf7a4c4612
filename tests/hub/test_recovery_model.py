"""Whatever happens between a log and a subscriber: it never sees a hole, a double or disorder without being told."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import Namespace
from gateway.errors import BrokerUnavailable
from gateway.hub import catchup, feed
from gateway.hub.channel import Channel
from protocol.encodings import JSON
from protocol.redis_contract import publish_channel
from tests.support.hub import FakeReceiver, HubWorld, turn

CHANNEL = "news"
RULES = Namespace(history_size=100, history_ttl_s=60, recover=True)


class Subscriber(FakeReceiver):
    """A client that knows where it stands."""

    def __init__(self, world: World, epoch: str, offset: int) -> None:
        super().__init__()
        self._world = world
        self.epoch = epoch
        self.offset = offset
        self.told = False

    def deliver(self, frames: bytes) -> bool:
        wrong = self._world.wrong
        if self not in self._world.members:
            wrong.append("delivered to somebody who has left")
        if not super().deliver(frames):
            for offset, epoch in self._world.offsets_in(frames):
                if (epoch, offset) != (self.epoch, self.offset + 1):
                    wrong.append(f"{epoch}:{offset} after {self.epoch}:{self.offset}")
                self.offset = offset
        return self.slow

    def subscription_lost(self, channel: str) -> None:
        assert channel == CHANNEL
        self.told = True
        self._world.leave(self)


class World:
    """One channel, its log, and a connection to Redis on which things get lost."""

    def __init__(self) -> None:
        self.hub = HubWorld(slice_deliveries=2, queue_messages=4, namespaces={"default": RULES})
        self.log = self.hub.log
        self.members: list[Subscriber] = []
        self.gone: list[Subscriber] = []
        self.told: list[Subscriber] = []
        self.payloads: list[bytes] = []
        self.unheard = False
        """Whether something has happened to the log that only a look at it can tell: nothing newer was heard."""
        self.channel: Channel | None = None
        self.wrong: list[str] = []
        """What must not happen. Kept, as an exception in a callback of the loop would end nothing."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.wrong.append(str(context)))

    @staticmethod
    def offsets_in(frames: bytes) -> list[tuple[int, str]]:
        found = []
        while frames:
            size, header = frames[1], 2
            if size == 126:
                size, header = int.from_bytes(frames[2:4]), 4
            payload, frames = frames[header : header + size], frames[header + size :]
            for reply in JSON.decode_replies(payload):
                assert reply.push is not None
                assert reply.push.pub is not None
                found.append((reply.push.pub.offset, bytes(reply.push.pub.data).decode().strip('"')))
        return found

    def publish(self, *, heard: bool) -> None:
        epoch = self.log.epoch(CHANNEL)
        payload = self.log.put(CHANNEL, b'"%b"' % epoch.encode())
        self.payloads.append(payload)
        self.unheard = not heard
        if heard:
            self.hear(payload)

    def hear(self, payload: bytes) -> None:
        self.hub.hub.message_received(publish_channel("gw", CHANNEL), payload)

    async def join(self, back: Subscriber | None) -> None:
        (channel,), ready = self.hub.hub.open([(CHANNEL, "")])
        if channel.held is not channel.held.YES:
            self.hub.confirm(CHANNEL)
        if ready is not None:
            await asyncio.wait((ready,), timeout=0.05)
        if not channel.ready or channel.feed is None:
            self.hub.hub.cancel(channel)
            return
        here = channel.feed
        self.channel = channel
        if back is not None and back.epoch == here.epoch and back.offset <= here.top:
            member = Subscriber(self, here.epoch, back.offset)
            self.members.append(member)
            self.hub.hub.join(channel, member, back.offset)
        else:
            member = Subscriber(self, here.epoch, here.passed)
            self.members.append(member)
            self.hub.hub.join(channel, member)

    def leave(self, member: Subscriber) -> None:
        self.members.remove(member)
        (self.told if member.told else self.gone).append(member)
        if self.channel is not None:
            self.hub.hub.leave(self.channel, member)

    def wake(self, member: Subscriber) -> None:
        member.slow = False
        self.hub.hub.drained(member)

    async def end(self) -> None:
        """Redis is well, everybody reads: after a while everybody has everything, or was told."""
        self.log.error, self.log.late = None, False
        self.log.answer()
        if self.unheard:
            self.hub.hub.subscriber_connected()
        for member in list(self.members):
            self.wake(member)
        for _ in range(2000):
            assert not self.wrong
            top, epoch = self.log.tops.get(CHANNEL, 0), self.log.epoch(CHANNEL)
            if all((member.epoch, member.offset) == (epoch, top) for member in self.members):
                await turn(5)
                assert not self.wrong
                return
            await asyncio.sleep(0.001)
        behind = [(member.epoch, member.offset) for member in self.members]
        raise AssertionError(f"the log is at {(epoch, top)}, subscribers at {behind}")


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 12)),
        st.tuples(st.just("miss"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["again", "join", "back", "leave", "sleep", "wake", "trim"]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["lose", "reconnect", "late", "answer", "away", "check"]), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=40,
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RETRY_S", (0.001, 0.002))
    monkeypatch.setattr(catchup, "RETRY_S", 0.001)
    monkeypatch.setattr(catchup, "TELL", (2, 0.001))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_nobody_sees_a_hole_without_being_told(operations: list[tuple[str, int]]) -> None:
    asyncio.run(run(operations))


async def run(operations: list[tuple[str, int]]) -> None:
    world = World()
    await world.join(None)
    for operation, number in operations:
        members = world.members
        member = members[number % len(members)] if members else None
        match operation:
            case "publish" | "miss":
                for _ in range(number):
                    world.publish(heard=operation == "publish")
            case "again" if world.payloads:
                world.hear(world.payloads[number % len(world.payloads)])
            case "join":
                await world.join(None)
            case "back" if world.gone:
                await world.join(world.gone[number % len(world.gone)])
            case "leave" if member is not None:
                world.leave(member)
            case "sleep" if member is not None:
                member.slow = True
            case "wake" if member is not None:
                world.wake(member)
            case "trim":
                world.log.trim(CHANNEL, number)
            case "lose":
                world.log.lose(CHANNEL)
                world.payloads.clear()
                world.unheard = True
            case "reconnect":
                world.hub.hub.subscriber_lost("test")
                world.hub.hub.subscriber_connected()
                world.unheard = False
            case "late":
                world.log.late = not world.log.late
            case "answer":
                world.log.answer()
            case "away":
                world.log.error = None if world.log.error else BrokerUnavailable("away")
            case "check":
                world.hub.clock.advance(60)
                world.hub.hub.check_positions()
            case "turn":
                await turn(number)
    await world.end()


async def test_a_gap_is_read_once_for_all_subscribers_and_before_newer_publications() -> None:
    world = World()
    for _ in range(50):
        await world.join(None)
    for _ in range(3):
        world.publish(heard=False)
    reads = len(world.log.reads)
    world.publish(heard=True)
    await world.end()
    assert [member.offset for member in world.members] == [4] * 50
    assert len(world.log.reads) - reads <= 3  # the gap, and the look after the reconnect at the end


async def test_ten_thousand_who_come_back_read_the_log_once() -> None:
    world = World()
    await world.join(None)
    for _ in range(100):
        world.publish(heard=True)
        await turn(2)
    assert world.channel is not None
    away = Subscriber(world, world.log.epoch(CHANNEL), 1)
    reads = len(world.log.reads)
    for number in range(10_000):
        away.offset = number % 100
        await world.join(away)
    await world.end()
    assert {member.offset for member in world.members} == {100}
    assert len(world.log.reads) - reads <= 2  # the newest page, and the look after the reconnect at the end


async def test_a_log_that_is_too_short_is_told_to_everybody_paced() -> None:
    world = World()
    for _ in range(10):
        await world.join(None)
    for _ in range(20):
        world.publish(heard=False)
    world.log.trim(CHANNEL, 5)
    world.publish(heard=True)
    await turn(3)
    assert 0 < len(world.told) < 10
    await world.end()
    assert len(world.told) == 10
