"""Latencies: percentiles against exact ones, addition, the window, what is slow, readers beside a writer."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import CounterTable, LatencyRecorder, LatencyRow, names
from gateway.metrics.histograms import Histogram, SlowOperation, nearest_bound, recent, slow_operations, total
from gateway.metrics.latency import (
    BOUNDS,
    BUCKETS,
    CHANNEL_BYTES,
    OPERATION,
    SEQUENCE,
    SLICE_S,
    SLICES,
    SLOW_KEPT_S,
    SLOW_RECORDS,
    USER_BYTES,
    cut,
)
from gateway.metrics.names import BOUNDS_S, CONTROL_OPERATIONS, EDGE_OPERATIONS, OPERATIONS
from gateway.processes import child_environment

OP = names.OP_BROADCAST
START_S = 1000.0
WALL_S = 1_800_000_000.0
ERROR = 0.02

in_range = st.floats(min_value=1e-6, max_value=60.0)
durations = st.lists(in_range, min_size=1, max_size=200)


def writer(row: LatencyRow, *, slow_s: float = 1000.0) -> LatencyRecorder:
    return LatencyRecorder(row, START_S, WALL_S, slow_s=slow_s)


def row_with(seconds: list[float]) -> LatencyRow:
    row = LatencyRow.private()
    recorder = writer(row)
    for each in seconds:
        recorder.record(OP, each)
    return row


def exact(seconds: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(seconds)[max(1, math.ceil(share * len(seconds))) - 1]


@given(durations, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_percentiles_are_within_two_percent_of_exact_ones(seconds: list[float], share: float) -> None:
    found = recent([row_with(seconds)], OP, START_S)
    assert found.percentile_s(share) == pytest.approx(exact(seconds, share), rel=ERROR)


@given(durations)
def test_count_average_shortest_and_longest_are_exact(seconds: list[float]) -> None:
    found = recent([row_with(seconds)], OP, START_S)
    assert found.count == len(seconds)
    assert found.average_s == pytest.approx(sum(seconds) / len(seconds), rel=1e-3)
    assert found.shortest_ns == int(min(seconds) * 1e9)
    assert found.longest_ns == int(max(seconds) * 1e9)


@given(st.lists(durations, min_size=1, max_size=4))
def test_workers_together_are_as_one_that_had_everything(parts: list[list[float]]) -> None:
    apart = [row_with(part) for part in parts]
    whole = row_with([each for part in parts for each in part])
    one, other = recent(apart, OP, START_S), recent([whole], OP, START_S)
    for name in Histogram.__slots__:
        assert getattr(one, name) == getattr(other, name)
    assert total(apart, OP).buckets == total([whole], OP).buckets


@given(st.floats(min_value=0, max_value=1e6))
def test_each_duration_falls_into_the_bucket_whose_bounds_enclose_it(seconds: float) -> None:
    (bucket,) = [at for at, number in enumerate(total([row_with([seconds])], OP).buckets) if number]
    tolerance = 1 + 1e-9  # the logarithm is rounded
    assert bucket == 0 or BOUNDS[bucket - 1] <= seconds * tolerance
    assert bucket == BUCKETS - 1 or seconds <= BOUNDS[bucket] * tolerance


def test_bounds_reach_from_a_microsecond_to_a_minute_and_their_middle_is_within_two_percent() -> None:
    assert BOUNDS[0] <= 1e-6
    assert BOUNDS[-1] >= 60
    assert all(math.sqrt(above / below) - 1 <= ERROR for below, above in pairwise(BOUNDS))


def test_exposed_bounds_are_fine_bounds_and_200_ms_is_exact() -> None:
    assert all(BOUNDS[nearest_bound(each)] == pytest.approx(each, rel=ERROR) for each in BOUNDS_S)
    assert BOUNDS[nearest_bound(0.2)] == 0.2
    below = total([row_with([0.19, 0.199999, 0.200001, 0.21, 300.0])], OP).below_exposed()
    assert below[BOUNDS_S.index(0.2)] == 2
    assert below[BOUNDS_S.index(0.1)] == 0
    assert below[-1] == 4


def test_what_never_happened_has_no_time() -> None:
    nothing = recent([LatencyRow.private()], OP, START_S)
    assert (nothing.count, nothing.average_s, nothing.percentile_s(0.99)) == (0, 0.0, 0.0)


def test_durations_outside_the_range_are_counted_and_shown_as_they_are() -> None:
    found = recent([row_with([0.0, 100.0, 100.0])], OP, START_S)
    assert found.count == 3
    assert found.percentile_s(0.1) < 1e-6
    assert found.percentile_s(0.99) == 100.0


@given(st.lists(st.tuples(st.floats(min_value=0, max_value=40), in_range), min_size=1, max_size=60))
def test_the_window_is_the_last_six_slices_and_totals_are_everything(steps: list[tuple[float, float]]) -> None:
    row = LatencyRow.private()
    recorder = writer(row)
    now, seen = START_S, []
    for wait_s, seconds in steps:
        now += wait_s
        recorder.tick(now, WALL_S)
        recorder.record(OP, seconds)
        seen.append((now, seconds))
    begin = (now // SLICE_S - (SLICES - 1)) * SLICE_S
    window = [seconds for at, seconds in seen if at >= begin]
    found = recent([row], OP, now)
    assert found.count == len(window)
    assert found.longest_ns == int(max(window) * 1e9)
    assert total([row], OP).count == len(seen)


def test_a_reader_does_not_count_what_a_writer_that_stands_still_has_left() -> None:
    row = row_with([0.1])
    assert recent([row], OP, START_S + SLICE_S * (SLICES - 1)).count == 1
    assert recent([row], OP, START_S + SLICE_S * SLICES).count == 0


def test_the_next_process_of_a_row_goes_on_from_what_is_there() -> None:
    row = row_with([0.1])
    writer(row).record(OP, 0.3)
    assert recent([row], OP, START_S).count == 2
    assert total([row], OP).count == 2


def test_rows_without_an_operation_are_left_out() -> None:
    control = LatencyRow.private(CONTROL_OPERATIONS)
    recorder = writer(control)
    recorder.record(names.API_OPERATIONS["publish"], 0.1)
    recorder.record(names.OP_LOOP_LAG, 0.2)
    rows = [row_with([0.3]), control]
    assert recent(rows, OP, START_S).count == 1
    assert recent(rows, names.API_OPERATIONS["publish"], START_S).count == 1
    assert recent(rows, names.OP_LOOP_LAG, START_S).count == 1
    with pytest.raises(IndexError):
        recorder.record(OP, 0.1)


# Slow operations.


def test_slow_operations_are_kept_with_all_that_is_known() -> None:
    row = LatencyRow.private()
    recorder = writer(row, slow_s=0.2)
    recorder.record(OP, 0.199, "fast", "42")
    recorder.record(OP, 0.2, "news", "42")
    recorder.tick(START_S + 1, WALL_S + 1)
    recorder.record(names.OP_LOOP_LAG, 1.5)
    first, second = sorted(slow_operations(row))
    assert first == SlowOperation(WALL_S, OP, 0.2, "news", "42")
    assert second == SlowOperation(WALL_S + 1, names.OP_LOOP_LAG, 1.5, "", "")


@given(st.lists(st.integers(min_value=200, max_value=100_000), max_size=4 * SLOW_RECORDS))
def test_the_slowest_are_kept(milliseconds: list[int]) -> None:
    row = LatencyRow.private()
    recorder = writer(row, slow_s=0.2)
    for each in milliseconds:
        recorder.record(OP, each / 1000)
    kept = sorted((round(each.seconds * 1000) for each in slow_operations(row)), reverse=True)
    assert kept == sorted(milliseconds, reverse=True)[:SLOW_RECORDS]


def test_old_slow_operations_make_room() -> None:
    row = LatencyRow.private()
    recorder = writer(row, slow_s=0.2)
    for _ in range(SLOW_RECORDS + 1):
        recorder.record(OP, 5.0, "old")
    recorder.tick(START_S + SLOW_KEPT_S + 1, WALL_S + SLOW_KEPT_S + 1)
    recorder.record(OP, 0.3, "new")
    assert sum(each.channel == "new" for each in slow_operations(row)) == 1


@given(st.text(), st.integers(min_value=0, max_value=20))
def test_texts_are_cut_between_characters(text: str, size: int) -> None:
    short = cut(text, size)
    assert len(short) <= size
    clean = text.encode(errors="replace").decode()
    assert clean.startswith(short.decode())
    assert len(short) > size - 4 or short.decode() == clean


def test_long_names_are_cut_and_do_not_leave_their_ends_behind() -> None:
    row = LatencyRow.private()
    recorder = writer(row, slow_s=0.2)
    for _ in range(SLOW_RECORDS):
        recorder.record(OP, 0.3, "ä" * 1000, "ü" * 1000)
    assert {(len(each.channel), len(each.user)) for each in slow_operations(row)} == {
        (CHANNEL_BYTES // 2, USER_BYTES // 2)
    }
    recorder.record(OP, 0.4, "c", "u")
    assert [each for each in slow_operations(row) if (each.channel, each.user) == ("c", "u")]


def test_a_record_that_is_being_written_is_left_out_and_one_whose_writer_died_is_given_away() -> None:
    row = row_with([])
    recorder = writer(row, slow_s=0.2)
    recorder.record(OP, 0.3, "whole")
    recorder.record(OP, 0.4, "half")
    (half,) = [record for record, text in zip(row.slow, row.texts, strict=True) if bytes(text[:4]) == b"half"]
    half[SEQUENCE] += 1
    half[OPERATION] = 2**63
    assert [each.channel for each in slow_operations(row)] == ["whole"]
    writer(row, slow_s=0.2).record(OP, 0.5, "next")
    assert sorted(each.channel for each in slow_operations(row)) == ["next", "whole"]


# Two processes.


def test_a_reader_beside_a_writer_never_sees_what_cannot_be() -> None:
    """The writer has one duration and one name for each slow record: a mixture of two would be seen."""
    row = LatencyRow.private()
    recorder = writer(row, slow_s=0.2)
    ended = threading.Event()
    mixed: list[object] = []

    def read() -> None:
        while not ended.is_set():
            for each in slow_operations(row):
                if each.channel != f"c{round(each.seconds * 1000)}":
                    mixed.append(each)
            found = recent([row], OP, START_S)
            if found.count and not 0.3 <= found.percentile_s(0.5) <= 4.0:
                mixed.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for round_ in range(3_000):
            milliseconds = 300 + round_
            recorder.record(OP, milliseconds / 1000, f"c{milliseconds}")
    finally:
        ended.set()
        reader.join()
    assert mixed == []
    assert recent([row], OP, START_S).count == 3_000


def test_another_process_writes_what_this_one_reads() -> None:
    table = CounterTable.create(2)
    code = (
        "import sys; from gateway.metrics import CounterTable, LatencyRecorder, names;"
        "table = CounterTable(int(sys.argv[1]), 2);"
        f"recorder = LatencyRecorder(table.latency_row(1), {START_S}, {WALL_S}, slow_s=0.2);"
        "recorder.record(names.OP_CONNECT, 0.5, 'c', 'u')"
    )
    try:
        subprocess.run(
            [sys.executable, "-c", code, str(table.fd)], pass_fds=[table.fd], env=child_environment(), check=True
        )
        assert recent(table.latency_rows(), names.OP_CONNECT, START_S).count == 1
        assert recent([table.latency_row(0)], names.OP_CONNECT, START_S).count == 0
        (slow,) = slow_operations(table.latency_row(1))
        assert (slow.channel, slow.user) == ("c", "u")
        assert not any(table.row(0))
        assert not any(table.row(1))
    finally:
        os.close(table.fd)


def test_rows_of_a_table_do_not_overlap() -> None:
    table = CounterTable.create(2)
    try:
        rows = table.latency_rows()
        for index, row in enumerate(rows):
            recorder = writer(row)
            for operation in row.operations:
                for _ in range(index + 1):
                    recorder.record(operation, 0.1)
        for index, row in enumerate(rows):
            assert [total([row], operation).count for operation in row.operations] == [index + 1] * len(row.operations)
        assert not any(table.row(0))
        with pytest.raises(IndexError, match="2 rows"):
            table.latency_row(3)
    finally:
        os.close(table.fd)


# Names.


def test_every_operation_has_its_own_name_and_constant() -> None:
    constants = sorted(each for name, each in vars(names).items() if name.startswith("OP_"))
    assert constants == list(EDGE_OPERATIONS)
    assert sorted({*EDGE_OPERATIONS, *CONTROL_OPERATIONS}) == list(range(len(OPERATIONS)))
    assert len({each.name for each in OPERATIONS}) == len(OPERATIONS)
    assert [OPERATIONS[each].name for each in names.API_OPERATIONS.values()] == [
        f"api_{name}" for name in names.API_OPERATIONS
    ]
