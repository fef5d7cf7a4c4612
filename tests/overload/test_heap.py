"""Collections and trims: when they happen, and that their pauses are known."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.clock import FakeClock
from gateway.metrics import names, private_row
from gateway.overload import Heap, find_malloc_trim


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector of the test process, as it was."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class Loop:
    def __init__(self) -> None:
        self.me = self


def heap(clock: FakeClock, *, pause_s: float = 0.0) -> tuple[Heap, memoryview, list[int]]:
    """`pause_s`: how long a trim takes."""
    counters, trims = private_row(), []

    def trim(padding: int) -> int:
        trims.append(padding)
        clock.advance(pause_s)
        return 1

    return Heap(counters, clock, interval_s=10.0, trim=trim), counters, trims


def test_it_collects_and_trims_once_in_an_interval() -> None:
    clock = FakeClock()
    one, _, trims = heap(clock)
    assert one.reclaim()
    clock.advance(9.9)
    assert not one.reclaim()
    clock.advance(0.2)
    assert one.reclaim()
    assert trims == [0, 0]


def test_it_finds_garbage() -> None:
    gc.disable()
    try:
        before = len([each for each in gc.get_objects() if isinstance(each, Loop)])
        for _ in range(10):
            Loop()
        assert heap(FakeClock())[0].reclaim()
        assert len([each for each in gc.get_objects() if isinstance(each, Loop)]) == before
    finally:
        gc.enable()


def test_pauses_are_added_up_and_the_longest_is_kept() -> None:
    clock = FakeClock()
    one, counters, _ = heap(clock, pause_s=0.25)
    one.reclaim()
    assert counters[names.MEMORY_LONGEST_PAUSE_US] == pytest.approx(250_000, abs=1)
    clock.advance(60)
    one.reclaim()
    assert counters[names.MEMORY_PAUSE_US] == pytest.approx(500_000, abs=2)
    assert counters[names.MEMORY_LONGEST_PAUSE_US] == pytest.approx(250_000, abs=1)


def test_no_malloc_trim_is_no_trouble() -> None:
    assert Heap(private_row(), FakeClock(), interval_s=1.0, trim=None).reclaim()


def test_the_heap_is_frozen_at_the_start_and_after_growth() -> None:
    one, _, _ = heap(FakeClock())
    one.settle()
    start = gc.get_freeze_count()
    assert start > 0
    kept = [Loop() for _ in range(100)]
    one.grown_to(1000)
    assert gc.get_freeze_count() == start
    one.grown_to(1001)
    grown = gc.get_freeze_count()
    assert grown >= start + len(kept)
    kept += [Loop() for _ in range(100)]
    one.grown_to(2000)
    assert gc.get_freeze_count() <= grown
    one.grown_to(2002)
    assert gc.get_freeze_count() > grown


def test_after_most_have_left_growth_counts_from_there() -> None:
    one, _, _ = heap(FakeClock())
    one.grown_to(10_000)
    one.grown_to(100)
    before = gc.get_freeze_count()
    kept = [Loop() for _ in range(100)]
    one.grown_to(1200)
    assert gc.get_freeze_count() >= before + len(kept)


def test_malloc_trim_of_this_machine_can_be_called() -> None:
    trim = find_malloc_trim()
    assert trim is None or trim(0) in (0, 1)
