"""Fan-out passes: what leaves together, who takes turns, who gets nothing any more."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hub.fanout import PASS_COST
from gateway.metrics import names
from tests.support.hub import CountingEncoding, FakeReceiver, HubWorld, delivered, turn


def receivers(count: int) -> list[FakeReceiver]:
    return [FakeReceiver() for _ in range(count)]


async def test_a_lone_publication_leaves_in_the_next_turn_of_the_loop() -> None:
    world = HubWorld()
    (receiver,) = world.join("news", FakeReceiver())
    world.publish("news", b'{"n":1}')
    assert receiver.frames == []
    await turn()
    assert receiver.frames == [b'\x81\x32{"push":{"channel":"news","pub":{"data":{"n":1}}}}']


async def test_publications_of_one_turn_leave_in_one_write() -> None:
    world = HubWorld()
    (receiver,) = world.join("news", FakeReceiver())
    for number in range(3):
        world.publish("news", b"%d" % number)
    await turn()
    assert len(receiver.frames) == 1
    assert receiver.received == [b"0", b"1", b"2"]


async def test_publications_that_arrive_during_a_pass_leave_together_in_the_next() -> None:
    world = HubWorld(slice_deliveries=2)
    members = world.join("news", *receivers(5))
    world.publish("news", b"1")
    await turn()
    assert sum(len(each.frames) for each in members) == 2
    world.publish("news", b"2")
    world.publish("news", b"3")
    await delivered(world, 15)
    assert [each.received for each in members] == [[b"1", b"2", b"3"]] * 5
    assert {len(each.frames) for each in members} == {2}


async def test_a_channel_with_three_receivers_is_served_while_another_with_ten_thousand_is_under_way() -> None:
    world = HubWorld(slice_deliveries=256)
    crowd = world.join("crowd", *receivers(10_000))
    few = world.join("few", *receivers(3))
    world.publish("crowd", b"1")
    await turn()
    world.publish("few", b"2")
    await turn(2)
    assert [each.received for each in few] == [[b"2"]] * 3
    assert sum(len(each.frames) for each in crowd) < 1000
    await delivered(world, 10_003)
    assert {len(each.frames) for each in crowd} == {1}


async def test_active_channels_take_turns_slice_by_slice() -> None:
    world = HubWorld(slice_deliveries=4)
    groups = [world.join(name, *receivers(20)) for name in ("a", "b", "c")]
    for name in ("a", "b", "c"):
        world.publish(name, b"1")
    progress = []
    for _ in range(9):
        await turn()
        progress.append([sum(len(each.frames) for each in group) for group in groups])
    assert progress[:6] == [[4, 0, 0], [4, 4, 0], [4, 4, 4], [8, 4, 4], [8, 8, 4], [8, 8, 8]]


async def test_many_small_channels_do_not_add_up_to_a_long_slice() -> None:
    world = HubWorld(slice_deliveries=10 * (PASS_COST + 1))
    for number in range(100):
        world.join(f"c{number}", FakeReceiver())
        world.publish(f"c{number}", b"1")
    await turn()
    assert world.counters[names.DELIVERIES] == 10


async def test_who_leaves_gets_nothing_more_from_the_pass_that_is_under_way() -> None:
    world = HubWorld(slice_deliveries=1)
    first, second, third = world.join("news", *receivers(3))
    world.publish("news", b"1")
    await turn()
    world.leave("news", second)
    await turn(3)
    assert [each.received for each in (first, second, third)] == [[b"1"], [], [b"1"]]


async def test_who_joins_gets_nothing_from_a_pass_that_began_before_and_all_of_the_next() -> None:
    world = HubWorld(slice_deliveries=1)
    world.join("news", *receivers(3))
    world.publish("news", b"1")
    await turn()
    (late,) = world.join("news", FakeReceiver())
    world.publish("news", b"2")
    await delivered(world, 7)
    assert late.received == [b"2"]


async def test_a_publication_is_encoded_once_for_each_encoding_whatever_the_number_of_receivers() -> None:
    world = HubWorld()
    first, second = CountingEncoding(), CountingEncoding()
    members = world.join("news", *(FakeReceiver(each) for each in (first, second) for _ in range(50)))
    world.publish("news", b"1")
    world.publish("news", b"2")
    await delivered(world, 200)
    assert list(first.encoded.values()) == list(second.encoded.values()) == [1, 1]
    assert len({id(each.frames[0]) for each in members}) == 2


async def test_a_channel_that_everybody_left_ends_its_pass_in_peace() -> None:
    world = HubWorld(slice_deliveries=1)
    members = world.join("news", *receivers(3))
    world.publish("news", b"1")
    await turn()
    world.leave("news", *members)
    await turn(5)
    assert [len(each.frames) for each in members] == [1, 0, 0]
    assert world.counters[names.QUEUED_BYTES] == 0


async def test_passes_deliveries_and_bytes_are_counted() -> None:
    # As many receivers as a slice has room for, one fewer, one more.
    for count in (3, 4, 5):
        world = HubWorld(slice_deliveries=4)
        members = world.join("news", *receivers(count))
        world.publish("news", b"1")
        world.publish("news", b"2")
        await turn(5)
        assert world.counters[names.PASSES] == 1, count
        assert world.counters[names.DELIVERIES] == 2 * count
        assert world.counters[names.BYTES_OUT] == sum(len(each.frames[0]) for each in members)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 7), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_who_stays_gets_everything_once_and_in_order(schedule: list[int], slice_deliveries: int, members: int) -> None:
    """Numbers of publications between turns of the loop; leavers and joiners beside them."""

    async def run() -> None:
        world = HubWorld(slice_deliveries=slice_deliveries)
        stay = world.join("news", *receivers(members))
        published: list[bytes] = []
        guests: list[FakeReceiver] = []
        for step, count in enumerate(schedule):
            for _ in range(count):
                published.append(b"%d" % len(published))
                world.publish("news", published[-1])
            guests += world.join("news", FakeReceiver()) if step % 2 else []
            if step % 3 == 0 and guests:
                world.leave("news", guests[step % len(guests)])
            await turn()
        await turn(200)
        for each in stay:
            assert each.received == published
        for each in guests:
            got = [int(data) for data in each.received]
            assert got == list(range(got[0], got[0] + len(got))) if got else True

    asyncio.run(run())
