"""Percentiles are samples that were seen; medians leave out what is not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.stats import median, percentile
from loadtest.bench.usage import TICKS_PER_S, CpuTime, cpu_time, parse_rss_kib, parse_stat, process_file, steady_rss_kib
from loadtest.scale.shares import tree_s


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 99, 99),
        (range(1, 101), 100, 100),
        (range(1, 10_001), 99.9, 9_990),
        (range(1, 11), 99.9, 10),
        ([7], 1, 7),
        ([7], 99, 7),
        ([1, 2], 50, 1),
        ([1, 2], 51, 2),
    ],
)
def test_percentile_is_the_nearest_rank(samples: list[int], percent: float, expected: int) -> None:
    assert percentile(list(samples), percent) == expected


@given(st.lists(st.integers(), min_size=1), st.integers(1, 100))
def test_at_least_that_share_of_samples_is_not_above_a_percentile(samples: list[int], percent: int) -> None:
    value = percentile(sorted(samples), percent)
    assert value in samples
    assert sum(sample <= value for sample in samples) * 100 >= percent * len(samples)


def test_percentile_of_nothing_says_that_nothing_was_received() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


@pytest.mark.parametrize("percent", [0, 101])
def test_percentile_refuses_what_is_no_percentage(percent: int) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percentile([1], percent)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), ([None], None), ([3, 1, 2], 2), ([4, 1], 2.5), ([None, 5], 5)],
)
def test_median_leaves_out_what_is_not_there(values: list[float | None], expected: float | None) -> None:
    assert median(values) == expected


def test_cpu_time_is_read_past_a_name_with_brackets() -> None:
    stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 7 8 20 0 1 0 100 1000 10"
    assert parse_stat(stat) == CpuTime(150 / TICKS_PER_S, 50 / TICKS_PER_S, 200 / TICKS_PER_S)


def test_cpu_time_since_is_the_difference() -> None:
    used = CpuTime(3.0, 5.0, 8.01).since(CpuTime(1.0, 2.0, 3.01))
    assert (used.user_s, used.system_s, used.total_s) == (2.0, 3.0, 5.0)


def test_cpu_time_of_a_process_that_runs_is_there_and_grows() -> None:
    before = cpu_time([os.getpid()])
    while cpu_time([os.getpid()]).total_s <= before.total_s:
        pass
    assert before.total_s > 0


def test_resident_memory_is_read_in_kib() -> None:
    assert parse_rss_kib("Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\n") == 812


def test_resident_memory_of_an_ended_process_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="ended"):
        parse_rss_kib("Name:\tx\nState:\tZ (zombie)\n")


def test_a_process_that_ends_between_opening_and_reading_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie: the file is there, what it tells is not
        with pytest.raises(FileNotFoundError, match=str(ended.pid)):
            process_file(ended.pid, "smaps_rollup")
    assert tree_s(ended.pid) == 0
    with pytest.raises(FileNotFoundError):
        cpu_time([os.getpid(), ended.pid])


def test_memory_is_looked_at_once_it_has_stopped_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = iter([1_000, 2_000, 3_000, 3_100, 3_100, 3_100, 3_100, 3_100, 9_000])
    monkeypatch.setattr("loadtest.bench.usage.rss_kib", lambda _pids: next(growing))
    monkeypatch.setattr("loadtest.bench.usage.STEADY_INTERVAL_S", 0.0)
    assert steady_rss_kib([1]) == 3_100


def test_memory_is_looked_at_without_what_has_ended_meanwhile() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert steady_rss_kib([ended.pid], deadline_s=0.3) == 0
