"""Who sends many invalid tokens gets its answers late; who sends good ones never does."""

from __future__ import annotations

import asyncio

import pytest

from gateway.clock import FakeClock
from gateway.metrics import names, private_row
from gateway.session import Failures
from gateway.session.failures import REMEMBERED, SHORTEST_S, WAITING
from tests.support.session import SessionWorld
from tests.support.waiting import wait_until


class World:
    def __init__(self, *, allowed: int = 3, longest_s: float = 4.0) -> None:
        self.clock = FakeClock()
        self.counters = private_row()
        self.failures = Failures(self.clock, self.counters, allowed=allowed, longest_s=longest_s)


def test_some_failures_are_answered_at_once_and_then_each_later_up_to_a_limit() -> None:
    failures = World().failures
    delays = [failures.delay_s("192.0.2.7") for _ in range(12)]
    assert delays == [0, 0, 0, 0.125, 0.25, 0.5, 1, 2, 4, 4, 4, 4]
    assert failures.delay_s("192.0.2.8") == 0


def test_failures_are_forgotten_with_time() -> None:
    world = World()
    for _ in range(3 + 1000):
        world.failures.delay_s("192.0.2.7")
    world.clock.advance(60)
    assert world.failures.delay_s("192.0.2.7") == 4, "three of them are forgotten"
    world.clock.advance(20 * 19)
    assert [world.failures.delay_s("192.0.2.7") for _ in range(4)] == [0, 0, 0, 0.125], "a long series is no longer"


def test_a_steady_trickle_is_never_delayed() -> None:
    world = World(allowed=10)
    for _ in range(100):
        assert world.failures.delay_s("192.0.2.7") == 0
        world.clock.advance(6.01)


def test_the_table_of_addresses_is_bounded_and_keeps_those_that_go_on() -> None:
    world = World(allowed=1)
    for number in range(REMEMBERED):
        world.failures.delay_s(f"a{number}")
    assert world.failures.delay_s("a0") > 0
    assert world.failures.delay_s("new") == 0
    assert world.failures.delay_s("a0") > 0, "it was the last but one"
    assert world.failures.delay_s("a1") == 0, "it was forgotten for the new one"


def test_it_can_be_switched_off() -> None:
    failures = World(allowed=0).failures
    assert not any(failures.delay_s("192.0.2.7") for _ in range(100))


async def test_no_more_answers_wait_than_are_allowed() -> None:
    world = World(allowed=1, longest_s=0.2)
    futures = [world.failures.answer_later("192.0.2.7:1") for _ in range(WAITING + 10)]
    held = [future for future in futures if future is not None]
    assert len(held) == WAITING
    assert world.counters[names.AUTH_FAILURES] == WAITING + 10
    assert world.counters[names.AUTH_DELAYED] == WAITING
    held[0].cancel()  # whoever asked is gone
    await asyncio.wait_for(asyncio.gather(*held[1:]), 20)
    assert world.failures.answer_later("192.0.2.7:1") is not None


async def test_addresses_are_networks_and_ports_do_not_matter() -> None:
    world = World(allowed=1)
    assert world.failures.answer_later("2001:db8::1:4711") is None
    assert world.failures.answer_later("2001:db8::2:4712") is not None
    assert world.failures.answer_later("2001:db8:0:1::2:4712") is None


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_bad_token_is_answered_late_and_a_good_one_at_once(leaves: bool) -> None:
    world = SessionWorld(limits={"auth_failures": 1})
    first = world.client()
    await first.frame({"id": 1, "connect": {"token": "bad"}})
    assert first.closed == 3500
    late = world.client()
    await late.frame({"id": 1, "connect": {"token": "bad"}}, {"id": 2, "subscribe": {"channel": "x"}})
    assert late.closed is None
    good = world.client()
    await good.connect()
    assert late.closed is None, "it still waits, and the good one behind the same address did not"
    if leaves:
        late.session.closed("connection lost")
        await asyncio.sleep(2 * SHORTEST_S)
        assert late.closed is None
        assert late.outlet.writes == []
    else:
        await wait_until(lambda: late.closed is not None, "the answer comes")
        assert late.closed == 3500
        assert late.outlet.writes == []
