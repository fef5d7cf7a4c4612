"""Pacing of restarts, and what is left in the counters of a dead worker."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StartupError
from gateway.metrics import names, private_row
from gateway.supervisor.keeper import RestartDelay, Timing, zero_gauges
from gateway.supervisor.limits import connections_within, raise_file_limit, usable_cores
from gateway.supervisor.worker import describe_exit


def test_delays_double_up_to_the_cap() -> None:
    delay = RestartDelay(Timing(), lambda: 1.0)
    assert [round(delay.after(0.0), 1) for _ in range(11)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


def test_a_process_that_lived_long_starts_over() -> None:
    delay = RestartDelay(Timing(), lambda: 1.0)
    for _ in range(20):
        delay.after(59.0)
    assert delay.after(60.0) == 0.1
    assert delay.after(0.0) == 0.2


@given(st.lists(st.floats(0, 59), max_size=100), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_below_half_the_base_nor_above_the_cap(lives: list[float], random: float) -> None:
    delay = RestartDelay(Timing(), lambda: random)
    assert all(0.05 <= delay.after(lived_s) <= 30.0 for lived_s in lives)


def test_a_dead_worker_keeps_its_counters_and_loses_its_gauges() -> None:
    row = private_row()
    for cell in range(len(row)):
        row[cell] = 5
    zero_gauges(row)
    assert {names.METRICS[cell].kind for cell in range(len(row)) if row[cell] == 0} == {"gauge"}
    assert {names.METRICS[cell].kind for cell in range(len(row)) if row[cell] == 5} == {"counter"}


def test_connections_stay_within_the_file_limit() -> None:
    assert connections_within(20_000, 15_000) == 15_000
    assert connections_within(1024, 15_000) == 768
    with pytest.raises(StartupError, match=r"hard limit on open files is 256 .*ulimit -Hn"):
        connections_within(256, 15_000)


def test_the_soft_file_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        limit = raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", None), ("150000 100000", 2), ("10000 100000", 1), ("", None)]
)
def test_a_containers_cpu_quota_bounds_the_number_of_workers(quota: str, cores: int | None, tmp_path: Path) -> None:
    unbounded = usable_cores(tmp_path / "missing")
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == min(cores or unbounded, unbounded)


def test_exits_are_told_in_words() -> None:
    assert describe_exit(3) == "status 3"
    assert describe_exit(-9) == "signal 9 (Killed)"
