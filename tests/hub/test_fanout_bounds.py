"""What happens when a channel gets more than leaves, and when a receiver takes less than it gets."""

from __future__ import annotations

import pytest

from gateway.config import Namespace
from gateway.metrics import names
from tests.support.hub import FakeReceiver, HubWorld, turn


async def test_past_its_bound_a_channel_drops_the_oldest_and_counts_them() -> None:
    world = HubWorld(queue_messages=3)
    (receiver,) = world.join("news", FakeReceiver())
    for number in range(5):
        world.publish("news", b"%d" % number)
    await turn()
    assert receiver.received == [b"2", b"3", b"4"]
    assert world.counters[names.DROPPED_QUEUE] == 2


async def test_past_its_bytes_a_channel_drops_the_oldest_but_never_the_newest() -> None:
    world = HubWorld(queue_bytes=10)
    (receiver,) = world.join("news", FakeReceiver())
    for data in (b'"1234"', b'"5678"', b'"a publication that is larger than the queue"'):
        world.publish("news", data)
    await turn()
    assert receiver.received == [b'"a publication that is larger than the queue"']
    assert world.counters[names.DROPPED_QUEUE] == 2


async def test_one_channel_s_bound_is_nobody_else_s() -> None:
    world = HubWorld(queue_messages=1)
    (busy,) = world.join("busy", FakeReceiver())
    (calm,) = world.join("calm", FakeReceiver())
    world.publish("calm", b"1")
    for number in range(10):
        world.publish("busy", b"%d" % number)
    await turn(3)
    assert (busy.received, calm.received) == ([b"9"], [b"1"])


async def test_what_arrives_during_a_pass_is_bounded_too() -> None:
    world = HubWorld(slice_deliveries=1, queue_messages=2)
    first, second = world.join("news", FakeReceiver(), FakeReceiver())
    world.publish("news", b"0")
    await turn()
    for number in range(1, 5):
        world.publish("news", b"%d" % number)
    await turn(5)
    assert first.received == second.received == [b"0", b"3", b"4"]


async def test_bytes_that_wait_are_counted_while_they_wait() -> None:
    world = HubWorld(slice_deliveries=1, queue_messages=2)
    world.join("news", FakeReceiver(), FakeReceiver())
    for data in (b"1", b"22", b"333"):
        world.publish("news", data)
    assert world.counters[names.QUEUED_BYTES] == 5
    await turn()
    world.publish("news", b"4444")
    assert world.counters[names.QUEUED_BYTES] == 4
    await turn(5)
    assert world.counters[names.QUEUED_BYTES] == 0


@pytest.mark.parametrize("policy", ["drop", "catch_up"])
async def test_a_slow_receiver_misses_publications_and_the_others_do_not(policy: str) -> None:
    world = HubWorld(namespaces={"ns": Namespace.model_validate({"slow_consumer": policy})})
    slow, quick = world.join("ns:a", FakeReceiver(slow=True), FakeReceiver(), namespace="ns")
    world.publish("ns:a", b"1")
    world.publish("ns:a", b"2")
    await turn()
    slow.slow = False
    world.publish("ns:a", b"3")
    await turn()
    assert (slow.received, quick.received) == ([b"3"], [b"1", b"2", b"3"])
    assert slow.closed_as_slow == 0
    assert world.counters[names.DROPPED_SLOW] == 2
    assert world.counters[names.DELIVERIES] == 4


async def test_a_slow_receiver_is_closed_where_the_namespace_says_so() -> None:
    world = HubWorld(namespaces={"ns": Namespace(slow_consumer="disconnect")})
    slow, quick = world.join("ns:a", FakeReceiver(slow=True), FakeReceiver(), namespace="ns")
    world.publish("ns:a", b"1")
    await turn()
    assert (slow.closed_as_slow, quick.closed_as_slow) == (1, 0)
    assert quick.received == [b"1"]
    assert world.counters[names.DROPPED_SLOW] == 1


async def test_a_slow_receiver_may_leave_while_it_is_being_closed() -> None:
    world = HubWorld(namespaces={"ns": Namespace(slow_consumer="disconnect")}, slice_deliveries=1)

    class Leaver(FakeReceiver):
        def too_slow(self) -> None:
            world.leave("ns:a", self)

    world.join("ns:a", Leaver(slow=True), Leaver(slow=True), namespace="ns")
    (last,) = world.join("ns:a", FakeReceiver(), namespace="ns")
    world.publish("ns:a", b"1")
    await turn(4)
    assert last.received == [b"1"]
    assert world.counters[names.SUBSCRIPTIONS] == 1
