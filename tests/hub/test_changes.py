"""Telling subscribers who joins and leaves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.config import Namespace
from gateway.hub import Channel, Presence
from gateway.hub.changes import TOGETHER, ChangeFanout
from gateway.metrics import names, private_row
from protocol.encodings import JSON
from protocol.redis_contract import PresenceChange
from protocol.replies import ClientInfo
from tests.support.hub import CountingEncoding, FakeReceiver, turn
from tests.support.presence import FakePresenceStore


class World:
    def __init__(self, *, slice_deliveries: int = 256, queue_messages: int = 1000, **rules: Any) -> None:
        self.counters = private_row()
        changes = ChangeFanout(self.counters, slice_deliveries=slice_deliveries, queue_messages=queue_messages)
        store: Any = FakePresenceStore()
        self.presence = Presence(store, store, changes, SystemClock(), lease_s=30)
        self.rules = Namespace(**({"join_leave": True} | rules))

    def channel(self, *receivers: FakeReceiver, name: str = "room") -> Channel:
        channel = Channel(name, name.encode(), self.rules)
        for receiver in receivers:
            channel.add(receiver)
        return channel

    def join(self, channel: Channel, *clients: str) -> None:
        for client in clients:
            self.presence.deliver_change(channel, change(client))


def change(client: str, *, joined: bool = True) -> PresenceChange:
    return PresenceChange(joined=joined, info=ClientInfo(user="u", client=client))


def told(receiver: FakeReceiver) -> list[tuple[str, str, str]]:
    """Channel, event, client."""
    found = []
    for frames in receiver.frames:
        for payload in payloads(frames):
            for reply in JSON.decode_replies(payload):
                push = reply.push
                assert push is not None
                event = push.join or push.leave
                assert event is not None
                found.append((push.channel, type(event).__name__, event.info.client))
    return found


def payloads(frames: bytes) -> Iterable[bytes]:
    while frames:
        size, header = frames[1], 2
        if size == 126:
            size, header = int.from_bytes(frames[2:4]), 4
        elif size == 127:
            size, header = int.from_bytes(frames[2:10]), 10
        yield frames[header : header + size]
        frames = frames[header + size :]


async def test_every_subscriber_of_the_channel_is_told_and_nobody_else() -> None:
    world = World()
    here, elsewhere = [FakeReceiver(), FakeReceiver()], FakeReceiver()
    channel = world.channel(*here)
    world.channel(elsewhere, name="other")
    world.join(channel, "a")
    world.presence.deliver_change(channel, change("a", joined=False))
    await turn(2)
    assert [told(each) for each in here] == [[("room", "Join", "a"), ("room", "Leave", "a")]] * 2
    assert told(elsewhere) == []


async def test_changes_are_encoded_once_for_each_encoding_and_leave_together() -> None:
    world = World()
    encoding = CountingEncoding()
    others = [FakeReceiver(encoding) for _ in range(50)]
    receivers = [FakeReceiver(), *others]
    world.join(world.channel(*receivers), "a", "b", "c")
    await turn(2)
    assert set(encoding.encoded.values()) == {1}
    assert all(len(each.frames) == 1 for each in receivers)
    assert len(told(others[7])) == 3


async def test_who_is_behind_is_told_and_who_has_left_is_not() -> None:
    world = World()
    behind, gone, stays = FakeReceiver(), FakeReceiver(), FakeReceiver()
    channel = world.channel(behind, gone, stays)
    channel.set_aside(behind, 7)
    world.join(channel, "a")
    channel.remove(gone)
    await turn(2)
    assert [len(told(each)) for each in (behind, gone, stays)] == [1, 0, 1]


async def test_many_subscribers_are_told_in_slices_and_small_channels_do_not_wait_for_them() -> None:
    world = World(slice_deliveries=10)
    many = [FakeReceiver() for _ in range(100)]
    large = world.channel(*many)
    receiver = FakeReceiver()
    world.join(large, "a")
    world.join(world.channel(receiver, name="small"), "b")
    left = many[-1]
    await turn(3)
    assert told(receiver) == [("small", "Join", "b")]
    assert 0 < sum(bool(each.frames) for each in many) < 100
    large.remove(left)
    await turn(20)
    assert sum(bool(each.frames) for each in many) == 99
    assert told(left) == []


async def test_what_comes_during_a_round_is_told_in_order_in_the_next_ones() -> None:
    world = World(slice_deliveries=10)
    receivers = [FakeReceiver() for _ in range(30)]
    channel = world.channel(*receivers)
    clients = [f"c{number}" for number in range(2 * TOGETHER + 5)]
    world.join(channel, *clients[:1])
    await turn(2)
    world.join(channel, *clients[1:])
    await turn(40)
    for receiver in receivers:
        assert [client for _, _, client in told(receiver)] == clients


async def test_a_storm_drops_the_oldest_changes_and_counts_them() -> None:
    world = World(queue_messages=3)
    receiver = FakeReceiver()
    world.join(world.channel(receiver), *"abcde")
    await turn(2)
    assert [client for _, _, client in told(receiver)] == ["c", "d", "e"]
    assert world.counters[names.DROPPED_QUEUE] == 2


@pytest.mark.parametrize(("rule", "closed"), [("drop", 0), ("disconnect", 1)])
async def test_a_slow_subscriber_misses_the_change_or_is_closed_as_its_namespace_says(rule: str, closed: int) -> None:
    world = World(slow_consumer=rule)
    slow, fast = FakeReceiver(slow=True), FakeReceiver()
    world.join(world.channel(slow, fast), "a", "b")
    await turn(2)
    assert slow.closed_as_slow == closed
    assert len(told(fast)) == 2
    assert world.counters[names.DROPPED_SLOW] == 2
