"""The table of counters in shared memory, and the names of its cells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.metrics import CounterTable, names, private_row
from gateway.metrics.names import METRICS
from gateway.processes import child_environment


@pytest.fixture
def table() -> Iterator[CounterTable]:
    table = CounterTable.create(3)
    yield table
    os.close(table.fd)


def test_rows_are_zero_at_first_and_do_not_overlap(table: CounterTable) -> None:
    assert all(not any(table.row(index)) for index in range(3))
    for index in range(3):
        row = table.row(index)
        for cell in range(len(METRICS)):
            row[cell] = 1000 * index + cell
    assert [list(table.row(index)) for index in range(3)] == [
        [1000 * index + cell for cell in range(len(METRICS))] for index in range(3)
    ]


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_row_outside_the_table(table: CounterTable, index: int) -> None:
    with pytest.raises(IndexError, match="3 rows"):
        table.row(index)


def test_live_rows_are_those_of_running_workers(table: CounterTable) -> None:
    table.row(1)[names.PID] = 42
    assert [index for index, _ in table.live_rows()] == [1]


def test_another_process_writes_into_the_same_cells(table: CounterTable) -> None:
    code = (
        "import sys; from gateway.metrics import CounterTable, names;"
        "CounterTable(int(sys.argv[1]), 3).row(2)[names.DELIVERIES] = 2**63"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(table.fd)], pass_fds=[table.fd], env=child_environment(), check=True
    )
    assert table.row(2)[names.DELIVERIES] == 2**63


def test_a_private_row_has_a_cell_for_every_metric() -> None:
    row = private_row()
    row[len(METRICS) - 1] += 1
    assert len(row) == len(METRICS)


def test_every_constant_is_the_cell_of_its_own() -> None:
    cells = sorted(
        each
        for name, each in vars(names).items()
        if name.isupper() and type(each) is int and not name.startswith("OP_")
    )
    assert cells == list(range(len(METRICS)))


def test_names_are_what_prometheus_wants_and_each_cell_has_its_own() -> None:
    assert len({(each.name, each.label, each.value) for each in METRICS}) == len(METRICS)
    for each in METRICS:
        assert re.fullmatch(r"gateway_[a-z_]+", each.name)
        assert not each.name.endswith("_total")
        assert each.help
        assert bool(each.label) == bool(each.value)


def test_cells_of_one_name_differ_in_their_label_only() -> None:
    by_name: dict[str, set[tuple[str, str, str]]] = {}
    for each in METRICS:
        by_name.setdefault(each.name, set()).add((each.kind, each.help, each.label))
    assert all(len(kinds) == 1 for kinds in by_name.values())


def test_the_generations_of_a_worker_are_read_together_and_counters_never_go_back() -> None:
    table = CounterTable.create(4, generations=2)
    old, new = table.row(2), table.row(3)
    old[names.PID], old[names.STARTED_S], old[names.CONNECTIONS], old[names.OPENED] = 41, 100, 5, 70
    new[names.PID], new[names.STARTED_S], new[names.CONNECTIONS], new[names.OPENED] = 42, 200, 2, 3
    new[names.READY] = 1
    ((slot, row),) = table.live_rows()
    assert slot == 1
    assert [row[cell] for cell in (names.STARTED_S, names.READY, names.CONNECTIONS, names.OPENED)] == [200, 1, 7, 73]
    old[names.PID] = old[names.CONNECTIONS] = 0
    ((_, row),) = table.live_rows()
    assert (row[names.CONNECTIONS], row[names.OPENED]) == (2, 73)
    os.close(table.fd)
