"""Turns of handshakes, tick by tick."""

from __future__ import annotations

import asyncio

import pytest

from gateway.clock import FakeClock, SystemClock
from gateway.edge import HandshakePace
from gateway.edge.pace import LONGEST_S, TICK_S
from gateway.metrics import names, private_row
from tests.support.waiting import wait_until


class FakeWaiting:
    def __init__(self) -> None:
        self.went = 0

    def turn_came(self) -> None:
        self.went += 1


class World:
    def __init__(self, per_s: float, places: int = 1000) -> None:
        self.clock = FakeClock()
        self.counters = private_row()
        self.pace = HandshakePace(per_s, places, self.counters, self.clock)


def test_a_burst_has_as_many_turns_as_the_rate_has_in_a_moment() -> None:
    world = World(1000)
    assert sum(world.pace.take() for _ in range(500)) == 1000 * LONGEST_S
    world.clock.advance(0.005)
    assert sum(world.pace.take() for _ in range(500)) == 5
    world.clock.advance(3600)
    assert sum(world.pace.take() for _ in range(500)) == 1000 * LONGEST_S


def test_a_rate_below_one_in_a_moment_still_lets_one_go() -> None:
    world = World(2)
    assert [world.pace.take(), world.pace.take()] == [True, False]
    world.clock.advance(0.5)
    assert [world.pace.take(), world.pace.take()] == [True, False]


def test_without_a_rate_everybody_goes() -> None:
    world = World(0)
    assert all(world.pace.take() for _ in range(10_000))
    assert world.pace.wait_s() == 1


def test_who_waits_goes_in_order_and_before_those_who_come_later() -> None:
    world = World(1000)
    while world.pace.take():
        pass
    waiting = [FakeWaiting() for _ in range(10)]
    assert all(world.pace.queue(each) for each in waiting)
    assert world.counters[names.HANDSHAKES_WAITING] == world.counters[names.HANDSHAKES_PACED] == 10
    world.clock.advance(0.0035)
    assert not world.pace.take(), "those who wait are first"
    world.pace.tick()
    assert [each.went for each in waiting] == [1] * 3 + [0] * 7
    world.pace.leave(waiting[3])
    world.pace.leave(waiting[0])
    assert world.counters[names.HANDSHAKES_WAITING] == len(world.pace) == 6
    while len(world.pace):
        world.pace.tick()
        world.clock.advance(TICK_S)
    assert [each.went for each in waiting] == [1] * 3 + [0] + [1] * 6


def test_the_queue_is_bounded_and_knows_how_long_it_is() -> None:
    world = World(100, places=250)
    assert [world.pace.queue(FakeWaiting()) for _ in range(251)] == [True] * 250 + [False]
    assert world.pace.wait_s() == 3


async def test_the_queue_is_served_at_its_rate_without_being_asked() -> None:
    counters = private_row()
    pace = HandshakePace(500, 1000, counters, SystemClock())
    running = asyncio.get_running_loop().create_task(pace.run())
    while pace.take():
        pass
    waiting = [FakeWaiting() for _ in range(100)]
    begin = asyncio.get_running_loop().time()
    for each in waiting:
        assert pace.queue(each)
    await wait_until(lambda: all(each.went for each in waiting), "all have had their turn")
    took_s = asyncio.get_running_loop().time() - begin
    assert took_s >= 100 / 500 - 2 * LONGEST_S, "not faster than the rate"
    assert [each.went for each in waiting] == [1] * 100
    late = FakeWaiting()
    pace.queue(late)
    await wait_until(lambda: late.went, "the queue is served again after it was empty")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_turns_that_a_busy_loop_has_missed_are_not_made_up() -> None:
    world = World(1000)
    waiting = [FakeWaiting() for _ in range(500)]
    for each in waiting:
        world.pace.queue(each)
    world.clock.advance(1)
    world.pace.tick()
    assert sum(each.went for each in waiting) == 1000 * LONGEST_S
