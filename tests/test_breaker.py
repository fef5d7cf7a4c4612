"""The circuit breaker: opens after failures in a row, tries with one call, closes or stays open."""

from __future__ import annotations

from gateway.breaker import Breaker
from gateway.clock import FakeClock


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.changes: list[bool] = []
        self.breaker = Breaker(self.clock.monotonic, failures=3, open_s=5.0, changed=self.changes.append)

    def fail(self, times: int) -> None:
        for _ in range(times):
            assert self.breaker.admit()
            self.breaker.failed()


def test_it_opens_after_failures_in_a_row_only() -> None:
    world = World()
    for _ in range(5):
        world.fail(2)
        assert world.breaker.admit()
        world.breaker.succeeded()
    assert world.changes == []
    world.fail(3)
    assert world.changes == [True]
    assert not world.breaker.admit()


def test_one_call_tries_and_its_success_closes() -> None:
    world = World()
    world.fail(3)
    world.clock.advance(4.9)
    assert not world.breaker.admit()
    world.clock.advance(0.2)
    assert world.breaker.admit()
    assert not world.breaker.admit(), "one at a time"
    world.breaker.succeeded()
    assert not world.breaker.is_open
    assert world.breaker.admit()
    assert world.breaker.admit()
    assert world.changes == [True, False]


def test_a_failed_try_opens_it_for_as_long_again_without_another_word() -> None:
    world = World()
    world.fail(3)
    world.clock.advance(5)
    assert world.breaker.admit()
    world.breaker.failed()
    world.clock.advance(4.9)
    assert not world.breaker.admit()
    world.clock.advance(0.2)
    assert world.breaker.admit()
    assert world.changes == [True]


def test_a_try_that_nobody_waited_for_makes_room_for_another() -> None:
    world = World()
    world.fail(3)
    world.clock.advance(5)
    assert world.breaker.admit()
    world.breaker.abandoned()
    assert world.breaker.admit()


def test_failures_of_calls_that_were_under_way_when_it_opened_change_nothing() -> None:
    world = World()
    for _ in range(4):
        assert world.breaker.admit()
    for _ in range(4):
        world.breaker.failed()
    assert world.changes == [True]
    world.clock.advance(5)
    assert world.breaker.admit()
