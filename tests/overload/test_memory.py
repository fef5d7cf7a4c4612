"""The governor with a fake probe: the whole ladder up and down, what is done at each step, and how often."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.clock import FakeClock
from gateway.config import Memory
from gateway.metrics import CounterTable, names
from gateway.overload import Governor, Heap, Level, Peers, Reading, memory
from tests.support.memory import MIB

LIMIT = 1000 * MIB


class FakeProbe:
    def __init__(self) -> None:
        self.reading: Reading | None = None

    def set(self, share: float, stalled: float = 0.0) -> None:
        self.reading = Reading(round(LIMIT * share), LIMIT, "fake", stalled)

    def read(self) -> Reading | None:
        return self.reading


class FakeActions:
    """The state that a worker is in, and what was done to it."""

    def __init__(self) -> None:
        self.caches = 0
        self.compresses = True
        self.budget = 1.0
        self.refuses = False
        self.slow = 0
        self.closed = 0
        self.drains: list[str] = []
        self.switched = 0

    @property
    def state(self) -> tuple[bool, float, bool]:
        return self.compresses, self.budget, self.refuses

    def shrink_caches(self) -> int:
        dropped, self.caches = self.caches, 0
        return dropped

    def allow_compression(self, allowed: bool) -> None:
        self.compresses = allowed
        self.switched += 1

    def scale_budgets(self, share: float) -> None:
        self.budget = share
        self.switched += 1

    def refuse_connections(self, refused: bool) -> None:
        self.refuses = refused
        self.switched += 1

    def close_slowest(self) -> bool:
        if not self.slow:
            return False
        self.slow -= 1
        self.closed += 1
        return True

    def drain(self, reason: str) -> None:
        self.drains.append(reason)


class World:
    def __init__(self, table: CounterTable, **settings: Any) -> None:
        self.clock = FakeClock()
        self.table = table
        self.counters = table.row(0)
        self.counters[names.PID] = 1
        self.probe = FakeProbe()
        self.actions = FakeActions()
        self.trims = 0
        self.settings = Memory(**settings)
        self.governor = Governor(
            self.settings,
            self.probe,
            self.actions,
            Heap(self.counters, self.clock, interval_s=self.settings.reclaim_interval_s, trim=self._trim),
            Peers(table, 0, drain_interval_s=self.settings.drain_interval_s),
            lambda: 77 * MIB,
            self.counters,
            self.clock,
            lambda: 0.5,
        )

    def _trim(self, _padding: int) -> int:
        self.trims += 1
        return 0

    def look(self, share: float, stalled: float = 0.0) -> Level:
        """A second later, with so much memory used."""
        self.probe.set(share, stalled)
        self.clock.advance(1.0)
        self.governor.look()
        return self.governor.level


@pytest.fixture
def table() -> Iterator[CounterTable]:
    table = CounterTable.create(2)
    yield table
    os.close(table.fd)


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Collections look at what a test makes, not at everything that is imported: that takes a tenth of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def world(table: CounterTable) -> World:
    return World(table)


NORMAL = (True, 1.0, False)
SHRUNK = (False, 1.0, False)
HALVED = (False, 0.5, False)
REFUSING = (False, 0.5, True)


def test_the_whole_ladder_up_and_down(world: World) -> None:
    went = [(world.look(share).name, world.actions.state) for share in (0.5, 0.7, 0.8, 0.87, 0.92, 0.96)]
    assert went == [
        ("NORMAL", NORMAL),
        ("SHRINK", SHRUNK),
        ("HALVE", HALVED),
        ("REFUSE", REFUSING),
        ("CLOSE", REFUSING),
        ("DRAIN", REFUSING),
    ]
    went = [(world.look(share).name, world.actions.state) for share in (0.89, 0.84, 0.79, 0.71, 0.6)]
    assert went == [
        ("CLOSE", REFUSING),
        ("REFUSE", REFUSING),
        ("HALVE", HALVED),
        ("SHRINK", SHRUNK),
        ("NORMAL", NORMAL),
    ]
    assert world.actions.switched == 6


def test_what_was_skipped_on_the_way_up_or_down_is_switched_too(world: World) -> None:
    assert world.look(0.93) is Level.CLOSE
    assert world.actions.state == REFUSING
    assert world.look(0.1) is Level.NORMAL
    assert world.actions.state == NORMAL


def test_around_a_threshold_nothing_is_switched_twice(world: World) -> None:
    for share in (0.86, 0.84, 0.86, 0.81, 0.85) * 4:
        world.look(share)
    assert world.actions.switched == 3
    assert world.counters[names.MEMORY_REFUSED] == 1


def test_stalls_are_a_second_signal(world: World) -> None:
    assert world.look(0.8, stalled=30.0) is Level.REFUSE
    assert world.look(0.8, stalled=0.0) is Level.HALVE
    assert world.actions.state == HALVED
    assert world.counters[names.MEMORY_STALLED] == 0


def test_figures_and_level_are_in_the_metrics(world: World) -> None:
    world.look(0.7, stalled=12.4)
    counters = world.counters
    assert counters[names.MEMORY_USED] == 700 * MIB
    assert counters[names.MEMORY_LIMIT] == LIMIT
    assert counters[names.MEMORY_OWN] == 77 * MIB
    assert counters[names.MEMORY_LEVEL] == Level.SHRINK
    assert counters[names.MEMORY_STALLED] == 12


def test_each_change_of_level_is_logged_once_with_figures(world: World) -> None:
    with capture_logs() as lines:
        for share in (0.5, 0.87, 0.88, 0.86, 0.5, 0.4):
            world.look(share)
    assert [(line["log_level"], line["event"], line["now"], line["before"]) for line in lines] == [
        ("warning", "memory level changed", "refuse", "normal"),
        ("info", "memory level changed", "normal", "refuse"),
    ]
    first = lines[0]
    assert (first["used_mib"], first["limit_mib"], first["share"], first["source"]) == (870.0, 1000.0, 0.87, "fake")
    assert first["does"] == "refuses new connections"


def test_caches_are_emptied_at_every_look_under_pressure(world: World) -> None:
    for share, left in ((0.5, 3), (0.7, 0), (0.7, 0), (0.5, 3)):
        world.actions.caches = 3
        world.look(share)
        assert world.actions.caches == left
    assert world.counters[names.MEMORY_SHRUNK] == 6


def test_the_heap_is_collected_and_trimmed_under_pressure_only_and_not_at_every_look(world: World) -> None:
    for _ in range(30):
        world.look(0.5)
    assert world.trims == 0
    for _ in range(25):
        world.look(0.7)
    assert world.trims == world.counters[names.MEMORY_COLLECTED] == 3


def test_only_after_some_looks_in_a_row_a_worker_drains_and_only_once(world: World) -> None:
    for share in (0.96, 0.96, 0.85, 0.96, 0.96):
        world.look(share)
    assert world.actions.drains == []
    for _ in range(200):
        world.look(0.96)
    assert world.actions.drains == ["out of memory: 960 of 1000 MiB used (fake)"]
    assert world.counters[names.MEMORY_DRAINED] == 1


def test_it_does_not_drain_while_another_worker_is_larger(world: World) -> None:
    other = world.table.row(1)
    other[names.PID], other[names.MEMORY_OWN] = 1, 78 * MIB
    for _ in range(10):
        world.look(0.99)
    assert world.actions.drains == []
    other[names.PID] = 0
    world.look(0.99)
    assert len(world.actions.drains) == 1


def test_a_new_worker_of_the_slot_does_not_drain_at_once_again(world: World) -> None:
    for _ in range(3):
        world.look(0.99)
    assert len(world.actions.drains) == 1
    successor = World(world.table)
    successor.clock.now = world.clock.now
    for _ in range(59):
        successor.look(0.99)
    assert successor.actions.drains == []
    for _ in range(3):
        successor.look(0.99)
    assert len(successor.actions.drains) == 1


def test_without_a_reading_nothing_is_done_and_that_is_said_once(world: World) -> None:
    world.look(0.9)
    with capture_logs() as lines:
        world.probe.reading = None
        for _ in range(5):
            world.governor.look()
    assert [line["event"] for line in lines] == ["memory is not governed", "memory level changed"]
    assert world.actions.state == NORMAL
    assert world.counters[names.MEMORY_LIMIT] == 0


# How it runs.


class Sleeps:
    """Instead of waiting: notes for how long, and lets the clock go on; after `looks` seconds it is over."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.world = world
        self.until = world.clock.now + seconds
        self.slept: list[float] = []
        monkeypatch.setattr(memory, "asyncio", SimpleNamespace(sleep=self.sleep))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.clock.advance(seconds)
        if self.world.clock.now >= self.until:
            raise asyncio.CancelledError


async def test_it_looks_at_the_start_and_then_each_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps = Sleeps(world, monkeypatch, 5)
    world.probe.set(0.86)
    with pytest.raises(asyncio.CancelledError):
        await world.governor.run()
    assert sleeps.slept == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert world.actions.refuses


async def test_the_slowest_are_closed_one_by_one_a_few_each_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = Sleeps(world, monkeypatch, 10.45)
    world.probe.set(0.92)
    world.actions.slow = 1000
    with pytest.raises(asyncio.CancelledError):
        await world.governor.run()
    assert set(sleeps.slept[1:]) == {0.2}
    assert world.actions.closed == world.counters[names.MEMORY_CLOSED] == 50


async def test_less_than_one_client_a_look_adds_up(table: CounterTable, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(table, closes_per_s=0.25)
    Sleeps(world, monkeypatch, 20.45)
    world.probe.set(0.92)
    world.actions.slow = 1000
    with pytest.raises(asyncio.CancelledError):
        await world.governor.run()
    assert world.actions.closed == 5


async def test_nobody_is_closed_below_that_level_nor_when_nobody_is_slow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sleeps(world, monkeypatch, 3)
    world.probe.set(0.88)
    world.actions.slow = 1000
    with pytest.raises(asyncio.CancelledError):
        await world.governor.run()
    assert world.actions.closed == 0
    Sleeps(world, monkeypatch, 3)
    world.probe.set(0.92)
    world.actions.slow = 1
    with pytest.raises(asyncio.CancelledError):
        await world.governor.run()
    assert world.counters[names.MEMORY_CLOSED] == 1


async def test_a_worker_that_drains_closes_nobody_beside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        world.look(0.99)
    assert world.actions.drains
    Sleeps(world, monkeypatch, 3)
    world.actions.slow = 1000
    with pytest.raises(asyncio.CancelledError):
        await world.governor.run()
    assert world.actions.closed == 0
