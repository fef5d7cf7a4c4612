"""The keepalive wheel, tick by tick."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from math import ceil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.edge import KeepaliveWheel
from gateway.edge.keepalive import WAIT_STEP_S


class FakePinged:
    """Notes the ticks at which it is pinged and looked after. Answers at once, unless it is `dead`."""

    def __init__(self, *, dead: bool = False) -> None:
        self.slot = -1
        self.dead = dead
        self.now = 0
        self.pings: list[int] = []
        self.checks: list[int] = []
        self.old: list[int] = []
        self.owes = False
        self.closed_at: int | None = None

    def ping(self) -> None:
        self.pings.append(self.now)
        self.owes = self.dead

    def grew_old(self) -> None:
        self.old.append(self.now)

    def check_pong(self) -> None:
        self.checks.append(self.now)
        if self.owes and self.closed_at is None:
            self.closed_at = self.now


def turn(wheel: KeepaliveWheel, ticks: int, *connections: FakePinged, start: int = 0) -> None:
    for now in range(start + 1, start + ticks + 1):
        for each in connections:
            each.now = now
        wheel.tick()


intervals = st.floats(0.2, 60)


@given(intervals, st.floats(0, 0.999999), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_first_ping_comes_in_the_second_half_of_the_interval_and_then_one_each_interval(
    interval_s: float, random: float, turned: int
) -> None:
    wheel = KeepaliveWheel(interval_s, min(8.0, interval_s / 2), lambda: random)
    turn(wheel, turned)
    connection = FakePinged()
    wheel.add(connection)
    count = round(interval_s / wheel.tick_s)
    turn(wheel, 3 * count, connection)
    assert len(connection.pings) == 3
    first = connection.pings[0] * wheel.tick_s
    assert interval_s / 2 - wheel.tick_s <= first <= interval_s
    assert [later - connection.pings[0] for later in connection.pings] == [0, count, 2 * count]


@given(intervals, st.floats(0.01, 0.99), st.floats(0, 0.999999))
@settings(max_examples=60, deadline=None)
def test_a_pong_that_is_owed_is_missed_after_the_timeout_and_within_a_tick_of_it(
    interval_s: float, share: float, random: float
) -> None:
    timeout_s = interval_s * share
    wheel = KeepaliveWheel(interval_s, timeout_s, lambda: random)
    dead, alive = FakePinged(dead=True), FakePinged()
    wheel.add(dead)
    wheel.add(alive)
    turn(wheel, 3 * round(interval_s / wheel.tick_s), dead, alive)
    assert dead.closed_at is not None
    waited = (dead.closed_at - dead.pings[0]) * wheel.tick_s
    assert waited <= timeout_s + wheel.tick_s * 1.001
    assert waited >= timeout_s - wheel.tick_s * 1.001
    assert alive.closed_at is None


def test_a_client_that_vanishes_is_found_within_interval_timeout_and_a_tick() -> None:
    wheel = KeepaliveWheel(25.0, 8.0, lambda: 0.9999)
    vanished = FakePinged()
    wheel.add(vanished)
    turn(wheel, 250, vanished)
    vanished.dead = True  # right after its pong
    turn(wheel, 331, vanished, start=250)
    assert vanished.closed_at is not None
    assert vanished.closed_at - 250 <= (25.0 + 8.0) / wheel.tick_s + 1


def test_pings_spread_evenly_over_the_second_half_of_the_interval() -> None:
    total = 1250
    numbers = iter([index / total for index in range(total)])
    wheel = KeepaliveWheel(25.0, 8.0, lambda: next(numbers))
    connections = [FakePinged() for _ in range(total)]
    for each in connections:
        wheel.add(each)
    turn(wheel, 250, *connections)
    at = Counter(each.pings[0] for each in connections)
    assert set(at) == set(range(125, 250))
    assert set(at.values()) == {10}


def test_who_is_removed_gets_no_more_pings_and_is_not_looked_after() -> None:
    wheel = KeepaliveWheel(1.0, 0.5, lambda: 0.5)
    connection = FakePinged(dead=True)
    wheel.add(connection)
    turn(wheel, 10, connection)
    assert connection.pings
    before = (list(connection.pings), list(connection.checks))
    wheel.remove(connection)
    wheel.remove(connection)
    turn(wheel, 30, connection, start=10)
    assert (connection.pings, connection.checks) == before
    assert connection.slot == -1


def test_connections_may_leave_while_their_slot_is_served() -> None:
    wheel = KeepaliveWheel(1.0, 0.5, lambda: 0.0)

    class Leaver(FakePinged):
        def ping(self) -> None:
            super().ping()
            wheel.remove(self)

    leavers = [Leaver() for _ in range(5)]
    for each in leavers:
        wheel.add(each)
    turn(wheel, 30, *leavers)
    assert [len(each.pings) for each in leavers] == [1] * 5


@pytest.mark.parametrize(("interval_s", "timeout_s"), [(0.2, 0.1), (25.0, 8.0), (25.0, 24.99), (3600.0, 3599.0)])
def test_the_tick_divides_the_interval(interval_s: float, timeout_s: float) -> None:
    wheel = KeepaliveWheel(interval_s, timeout_s, lambda: 0.0)
    assert (interval_s / wheel.tick_s) == pytest.approx(round(interval_s / wheel.tick_s))
    assert 0.05 <= wheel.tick_s <= 0.15
    assert ceil(timeout_s / wheel.tick_s) >= 1


@pytest.mark.parametrize(
    ("interval_s", "timeout_s", "turns", "tolerance"),
    [(25.0, 8.0, 4, 0.1), (5.0, 1.0, 6, 0.1), (25.0, 8.0, 12, 0.1), (25.0, 20.0, 20, 0.25)],
)
def test_after_a_storm_all_slots_soon_have_the_same_size(
    interval_s: float, timeout_s: float, turns: int, tolerance: float
) -> None:
    random = Random(7)
    wheel = KeepaliveWheel(interval_s, timeout_s, random.random)
    connections = [FakePinged() for _ in range(5000)]
    for each in connections:
        wheel.add(each)
    count = len(wheel.sizes)
    assert max(wheel.sizes) > 1.5 * 5000 / count, "at first half of the wheel has them all"
    for _ in range(turns * count):
        wheel.tick()
    assert max(wheel.sizes) <= (1 + tolerance) * 5000 / count
    if timeout_s < interval_s / 2:  # else there is little room to move in
        assert min(wheel.sizes) >= (1 - tolerance) * 5000 / count
    assert sum(wheel.sizes) == 5000


def test_a_connection_that_is_moved_is_pinged_early_never_late_and_has_its_whole_time_to_answer() -> None:
    random = Random(7)
    wheel = KeepaliveWheel(25.0, 8.0, random.random)
    connections = [FakePinged() for _ in range(1000)]
    for each in connections:
        wheel.add(each)
    dead = connections[::10]
    turn(wheel, 500, *connections)
    for each in dead:
        each.dead = True
    turn(wheel, 1000, *connections, start=500)
    moved = 0
    for each in connections:
        gaps = [later - earlier for earlier, later in pairwise(each.pings)]
        assert 125 <= each.pings[0] <= 250
        assert all(124 <= gap <= 250 for gap in gaps), gaps
        moved += any(gap < 250 for gap in gaps)
        assert (each.closed_at is not None) == each.dead
        if each.closed_at is not None:
            last = max(ping for ping in each.pings if ping < each.closed_at)
            assert each.closed_at - next(ping for ping in each.pings if ping > 500) == 80
            assert last == each.closed_at - 80
    assert moved > 300, "half of them had to move"


def test_who_is_not_moved_stays_even_while_others_come_and_go() -> None:
    random = Random(3)
    wheel = KeepaliveWheel(5.0, 1.0, random.random)
    here: list[FakePinged] = []
    for _ in range(20_000):
        if random.random() < 0.5 or len(here) < 200:
            here.append(FakePinged())
            wheel.add(here[-1])
        else:
            wheel.remove(here.pop(random.randrange(len(here))))
        if random.random() < 0.2:
            wheel.tick()
        assert sum(wheel.sizes) == len(here)
    for each in here:
        wheel.remove(each)
    assert not any(wheel.sizes)


def test_connections_that_came_together_grow_old_one_by_one() -> None:
    random = Random(5)
    wheel = KeepaliveWheel(5.0, 1.0, random.random, max_age_s=100.0)
    connections = [FakePinged() for _ in range(1000)]
    for each in connections:
        wheel.add(each)
    turn(wheel, 1100, *connections)
    ages = Counter((each.old[0] * wheel.tick_s) // 10 for each in connections)
    assert set(ages) <= {5, 6, 7, 8, 9, 10}
    assert all(120 <= ages[decade] <= 280 for decade in (6, 7, 8, 9)), ages


def test_without_a_maximum_age_nobody_grows_old() -> None:
    wheel = KeepaliveWheel(1.0, 0.5, lambda: 0.5)
    connection = FakePinged()
    wheel.add(connection)
    turn(wheel, 10_000, connection)
    assert not connection.old


class JumpingSelector(selectors.DefaultSelector):
    """Nobody waits: where a loop would sleep, its clock jumps."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class NotingWheel(KeepaliveWheel):
    """Notes when it ticks."""

    def __init__(self, interval_s: float) -> None:
        super().__init__(interval_s, interval_s / 3, lambda: 0.0)
        self.times: list[float] = []

    def tick(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        super().tick()


def ticks_of(
    interval_s: float,
    seconds: float,
    delivering: Callable[[float], bool],
    standing_still: Mapping[float, float] | None = None,
) -> NotingWheel:
    """A wheel that ran for so long by its loop's clock; `delivering` tells for each moment if there is something to,
    `standing_still` when nothing runs, and for how long."""
    selector = JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    wheel = NotingWheel(interval_s)

    def stand_still(duration_s: float) -> None:
        selector.now += duration_s

    async def run() -> None:
        for at, duration_s in (standing_still or {}).items():
            loop.call_at(at, stand_still, duration_s)
        running = asyncio.create_task(wheel.run(lambda: delivering(selector.now)))
        await asyncio.sleep(seconds)
        running.cancel()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())
    return wheel


def test_pings_wait_while_messages_are_delivered_and_go_on_where_they_stopped() -> None:
    wheel = ticks_of(25.0, 30.0, lambda now: 10.0 < now < 11.5)
    held_up = [later - earlier for earlier, later in pairwise(wheel.times) if later - earlier > 1.5 * wheel.tick_s]
    assert len(held_up) == 1
    assert held_up[0] == pytest.approx(1.5 + wheel.tick_s / 2, abs=wheel.tick_s)
    assert not [at for at in wheel.times if 10.01 < at < 11.5]
    assert len(wheel.times) == pytest.approx((30.0 - held_up[0]) / wheel.tick_s, abs=2)


@pytest.mark.parametrize(("interval_s", "wait_s"), [(25.0, 3.0), (250.0, 3.0), (8.0, 1.0), (1.0, 0.125)])
def test_a_ping_is_never_late_by_more_than_twice_the_longest_wait(interval_s: float, wait_s: float) -> None:
    wheel = ticks_of(interval_s, 6 * interval_s, lambda _now: True)
    count = round(interval_s / wheel.tick_s)
    turns = [later - earlier for earlier, later in zip(wheel.times, wheel.times[count:], strict=False)]
    assert turns
    assert max(turns) <= interval_s + 2 * wait_s + WAIT_STEP_S
    assert min(turns) >= interval_s + wait_s / 2, "deliveries go first all the time"


def test_a_wheel_that_waited_for_deliveries_gives_as_much_time_for_pongs() -> None:
    wheel = ticks_of(25.0, 60.0, lambda now: 30.0 < now < 32.0)
    gaps = [later - earlier for earlier, later in pairwise(wheel.times)]
    assert min(gaps) == pytest.approx(wheel.tick_s), "no tick is made up"


@pytest.mark.parametrize(("interval_s", "stood_still_s"), [(25.0, 5.0), (25.0, 60.0), (1.0, 0.5), (1.0, 30.0)])
def test_a_worker_that_stood_still_leaves_clients_the_time_to_answer(interval_s: float, stood_still_s: float) -> None:
    wheel = ticks_of(interval_s, 4 * interval_s + stood_still_s, lambda _now: False, {1.5 * interval_s: stood_still_s})
    pong_ticks = ceil(interval_s / 3 / wheel.tick_s)
    waited = [later - earlier for earlier, later in zip(wheel.times, wheel.times[pong_ticks:], strict=False)]
    assert min(waited) >= 7 / 8 * pong_ticks * wheel.tick_s - wheel.tick_s
    awake = [later - earlier for earlier, later in pairwise(wheel.times)]
    assert max(awake) == pytest.approx(stood_still_s, abs=2 * wheel.tick_s)


def test_ticks_of_a_loop_that_is_late_again_and_again_are_made_up() -> None:
    wheel = ticks_of(25.0, 100.0, lambda _now: False, {float(second): 0.7 for second in range(1, 99)})
    assert len(wheel.times) == pytest.approx(100.0 / wheel.tick_s, abs=8)
