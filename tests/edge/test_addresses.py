"""Counting the connections of an address over several workers that write a row each."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.edge import AddressCounts
from gateway.metrics import CounterTable
from gateway.session.network import network_of

Fleet = list[AddressCounts]


class Machine:
    """Workers with a common table."""

    def __init__(self, workers: int) -> None:
        self.table = CounterTable.create(workers)
        self.alive = [True] * workers
        self.workers = [self.start(index) for index in range(workers)]

    def start(self, index: int) -> AddressCounts:
        rows = [self.table.addresses(each) for each in range(self.table.rows)]
        return AddressCounts(rows, index, lambda each: self.alive[each], self.table.seed)


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine(2)
    yield machine
    os.close(machine.table.fd)


def test_workers_see_each_other_s_connections(machine: Machine) -> None:
    one, two = machine.workers
    assert [one.enter("192.0.2.7"), two.enter("192.0.2.7"), one.enter("192.0.2.7")] == [1, 2, 3]
    assert two.enter("192.0.2.8") == 1
    one.leave("192.0.2.7")
    assert two.enter("192.0.2.7") == 3
    for _ in range(5):
        one.leave("192.0.2.7")  # only one is there: more than that changes nothing
    assert one.enter("192.0.2.7") == 3


def test_the_connections_of_a_worker_that_died_do_not_count_and_its_successor_begins_anew(machine: Machine) -> None:
    one, two = machine.workers
    for _ in range(3):
        two.enter("192.0.2.7")
    machine.alive[1] = False
    assert one.enter("192.0.2.7") == 1
    successor = machine.start(1)
    successor.clear()
    machine.alive[1] = True
    assert one.enter("192.0.2.7") == 2
    assert successor.enter("192.0.2.7") == 3


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.booleans()), max_size=200))
@settings(max_examples=30, deadline=None)
def test_a_count_is_never_too_low(steps: list[tuple[int, int, bool]]) -> None:
    machine = Machine(3)
    true: Counter[tuple[int, str]] = Counter()
    for worker, number, enters in steps:
        network = f"192.0.2.{number}"
        if enters:
            true[worker, network] += 1
            counted = machine.workers[worker].enter(network)
            assert counted >= sum(true[each, network] for each in range(3))
        elif true[worker, network]:
            true[worker, network] -= 1
            machine.workers[worker].leave(network)
    for (worker, network), count in true.items():
        for _ in range(count):
            machine.workers[worker].leave(network)
    assert not any(any(machine.table.addresses(each)) for each in range(3))
    os.close(machine.table.fd)


@pytest.mark.parametrize(("addresses", "too_high"), [(10_000, 0.002), (30_000, 0.04)])
def test_a_count_is_rarely_too_high(machine: Machine, addresses: int, too_high: float) -> None:
    one, two = machine.workers
    for number in range(addresses):
        two.enter(f"a{number}")
    sample = 3000
    assert sum(one.enter(f"b{number}") > 1 for number in range(sample)) <= too_high * sample


def test_addresses_of_one_household_are_one() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::1") == "2001:0db8:0001:0002::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth0")
    assert network_of("") == ""


def test_rows_of_addresses_are_not_rows_of_counters() -> None:
    table = CounterTable.create(2)
    table.addresses(0)[0] = table.addresses(1)[-1] = 2**32 - 1
    table.row(1)[-1] = 2**64 - 1
    assert not any(table.row(0))
    assert sum(table.addresses(0)) == sum(table.addresses(1)) == 2**32 - 1
    assert len(table.seed) == 32
    assert table.seed == CounterTable(table.fd, 2).seed
    with pytest.raises(IndexError, match="2 rows"):
        table.addresses(2)
    os.close(table.fd)


def test_two_machines_hash_differently() -> None:
    tables = [CounterTable.create(1) for _ in range(2)]
    assert tables[0].seed != tables[1].seed
    for table in tables:
        AddressCounts([table.addresses(0)], 0, lambda _: True, table.seed).enter("192.0.2.7")
    assert bytes(tables[0].addresses(0)) != bytes(tables[1].addresses(0))
    for table in tables:
        os.close(table.fd)


def test_random_order_of_leaving_leaves_nothing(machine: Machine) -> None:
    one, _ = machine.workers
    entered = [f"192.0.2.{number % 7}" for number in range(500)]
    for network in entered:
        one.enter(network)
    random.Random(1).shuffle(entered)
    for network in entered:
        one.leave(network)
    assert not any(machine.table.addresses(0))
