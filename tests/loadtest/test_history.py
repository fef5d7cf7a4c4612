"""What history costs, as a small run and as sums."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
import uvloop
from rich.console import Console

from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import DEFAULT_COMMAND
from loadtest.history import __main__ as program
from loadtest.history.publishing import Rates, measure, rates_of
from loadtest.history.recovery import Client, Recovery, judge
from protocol.position import Position


def rates(kept_ratio: float = 0.8) -> Rates:
    return Rates(plain=1, kept=1, spread=1, rounds=1, kept_ratio=kept_ratio, spread_ratio=1)


def test_ratios_are_those_of_the_rounds_not_of_the_medians() -> None:
    found = rates_of({"plain": [10, 100, 1000], "kept": [5, 90, 500], "spread": [1, 10, 100]})
    assert (found.plain, found.kept, found.spread) == (100, 90, 10)
    assert (found.kept_ratio, found.spread_ratio) == (0.5, 0.1)


def passed(found: Rates, recovery: Recovery) -> list[bool]:
    return [target.passed for target in program.targets_of(found, recovery)]


def test_each_target_can_be_missed() -> None:
    good = {"clients": 10, "channels": 2, "missed": 3, "log_reads": 4, "whole": 10}
    assert passed(rates(), Recovery(**good)) == [True, True, True]  # type: ignore[arg-type]
    assert passed(rates(0.49), Recovery(**good | {"log_reads": 5, "whole": 9})) == [False, False, False]  # type: ignore[arg-type]


class Judged:
    """A client after the fact."""

    def __init__(self, **found: Any) -> None:
        loop = asyncio.get_running_loop()
        self.client = Client("news", "token", Position(offset=5, epoch="e"))
        self.client.done = loop.create_future()
        self.client.done.set_result(None)
        self.client.recovered = True
        self.client.offsets = [6, 7, 8]
        for name, value in found.items():
            setattr(self.client, name, value)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({}, ""),
        ({"recovered": False}, "told that it could not recover"),
        ({"offsets": [6, 8, 9]}, "publications lost, doubled or out of order"),
        ({"offsets": [6, 7, 7]}, "publications lost, doubled or out of order"),
        ({"offsets": [6, 8, 7]}, "publications lost, doubled or out of order"),
    ],
)
async def test_what_is_wrong_with_a_client_is_seen(found: dict[str, Any], problem: str) -> None:
    assert judge(Judged(**found).client, 3) == problem


async def test_a_client_that_fails_or_waits_is_not_whole() -> None:
    client = Client("news", "token", None)
    assert judge(client, 0) == "incomplete"
    client.closed(3004, "internal server error")
    assert judge(client, 0) == "closed with 3004 internal server error"


def test_a_publisher_that_cannot_run_is_said() -> None:
    with pytest.raises(BenchError, match=r"(?s)the publisher has ended with 1: .*must start with redis"):
        measure(sys.executable, "nonsense://", messages=1, rounds=1)


def test_clients_recover_whole_and_the_logs_are_read_once() -> None:
    plan = program.Plan(messages=200, rounds=1, clients=200, channels=4, missed=20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found, recovery = runner.run(program.run(plan, DEFAULT_COMMAND, Stages(Console(quiet=True))))
    assert min(found.plain, found.kept, found.spread) > 0
    assert recovery.wrong == {}
    assert recovery.whole == 200
    assert 0 < recovery.log_reads <= recovery.most_reads
