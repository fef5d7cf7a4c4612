"""Whose turn it is to drain: the largest, one at a time, not too often. With real processes, as the lock is theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.metrics import CounterTable, names
from gateway.overload import Peers

INTERVAL_S = 60.0
NOW = 5000.0

ASK = """
import sys
from gateway.metrics import CounterTable
from gateway.overload import Peers
fd, rows, slot, now = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
peers = Peers(CounterTable(fd, rows), slot, drain_interval_s=60.0)
print(peers.may_drain(now), flush=True)
sys.stdin.read()
"""


class Worker:
    """A process that has asked, and goes on living with the answer."""

    def __init__(self, table: CounterTable, slot: int, now: float) -> None:
        arguments = map(str, (table.fd, table.rows, slot, now))
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASK, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[table.fd],
        )
        assert self.process.stdout is not None
        self.may = self.process.stdout.readline().strip() == "True"

    def end(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


@pytest.fixture
def table() -> Iterator[CounterTable]:
    table = CounterTable.create(3)
    for slot, own in enumerate((100, 300, 200)):
        table.row(slot)[names.PID] = 1
        table.row(slot)[names.MEMORY_OWN] = own
    yield table
    os.close(table.fd)


def may(table: CounterTable, slot: int, now: float = NOW) -> bool:
    return Peers(table, slot, drain_interval_s=INTERVAL_S).may_drain(now)


def test_all_workers_that_run_are_added_up(table: CounterTable) -> None:
    peers = Peers(table, 0, drain_interval_s=INTERVAL_S)
    assert peers.used_bytes() == 600
    table.row(1)[names.PID] = 0
    assert peers.used_bytes() == 300


def test_it_is_the_turn_of_the_largest(table: CounterTable) -> None:
    assert [may(table, slot) for slot in (0, 2)] == [False, False]
    assert may(table, 1)


def test_of_equal_ones_exactly_one_goes(table: CounterTable) -> None:
    for slot in range(3):
        table.row(slot)[names.MEMORY_OWN] = 100
    assert [may(table, slot) for slot in range(3)] == [False, False, True]


def test_the_next_one_waits(table: CounterTable) -> None:
    assert may(table, 1)
    table.row(1)[names.MEMORY_OWN] = 0  # another process has its row now
    assert not may(table, 2, NOW + INTERVAL_S - 0.1)
    assert may(table, 2, NOW + INTERVAL_S + 0.1)


def test_one_alone_may(table: CounterTable) -> None:
    for slot in (0, 1):
        table.row(slot)[names.PID] = 0
    assert may(table, 2)


def test_nobody_goes_while_another_is_at_it_however_long_that_takes(table: CounterTable) -> None:
    draining = Worker(table, 1, NOW)
    assert draining.may
    table.row(1)[names.MEMORY_OWN] = 50  # its clients leave
    assert not may(table, 2, NOW + 10 * INTERVAL_S)
    draining.end()
    assert may(table, 2, NOW + 10 * INTERVAL_S)


def test_who_was_refused_holds_nothing(table: CounterTable) -> None:
    table.row(0)[names.MEMORY_DRAINED_MS] = int(NOW * 1000)
    refused = Worker(table, 1, NOW + 1)
    assert not refused.may
    assert may(table, 1, NOW + INTERVAL_S + 1)
    refused.end()
