"""The keepalive wheel, tick by tick."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.edge import KeepaliveWheel


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
