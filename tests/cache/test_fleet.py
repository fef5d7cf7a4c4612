"""Several processes: all that ask at once cause one answer, also when the one who makes it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.gateway import child_environment
from tests.support.lines import Lines
from tests.support.processes import kill_all
from tests.support.redis_server import RedisServer
from tests.support.source import ROOT
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.timeout(120)


class Fleet:
    """Processes of `caller.py`."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cache.caller", url],
            cwd=ROOT,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = Lines(self.process.stdout)
        self.pid_that_says("ready")

    def start(self, how: str, callers: int, then: str = "finish") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how} {callers} {then}\n")
        self.process.stdin.flush()

    def said(self, word: str) -> list[list[str]]:
        """What came after `word`, in the lines that have it behind the pid."""
        split = [line.split() for line in self.lines.seen]
        return [words[2:] for words in split if words[1:2] == [word]]

    def pid_that_says(self, word: str) -> int:
        def found() -> int | None:
            words = (line.split() for line in self.lines.seen)
            return next((int(each[0]) for each in words if each[1:2] == [word]), None)

        pid = self.lines.wait_for(found, word, timeout_s=3 * DEADLINE_S)
        assert pid is not None
        return pid

    def wait(self) -> None:
        """Until all have ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(2 * DEADLINE_S)
        self.lines.join()

    def close(self) -> None:
        kill_all(self.process)
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def fleet(redis_server: RedisServer) -> Iterator[Fleet]:
    fleet = Fleet(redis_server.url)
    yield fleet
    fleet.close()


@pytest.mark.parametrize("how", ["stream", "compute"])
def test_fifty_callers_in_five_processes_cause_one_answer(how: str, fleet: Fleet) -> None:
    for _ in range(5):
        fleet.start(how, 10)
    fleet.wait()
    assert len(fleet.said("produces")) == 1
    got = fleet.said("got")
    assert [whole for _, whole in got] == ["True"] * 50
    assert [level for level, _ in got].count("produced") == 1
    assert {level for level, _ in got} <= {"produced", "coalesced", "redis"}


def test_a_producer_that_is_killed_is_replaced_by_one_who_waits_and_the_answer_is_whole(fleet: Fleet) -> None:
    fleet.start("stream", 1, "hang")
    victim = fleet.pid_that_says("hangs")
    for _ in range(2):
        fleet.start("stream", 5)
    fleet.lines.wait_for(lambda: fleet.said("has").count(["coalesced"]) == 10, "all wait")
    os.kill(victim, signal.SIGKILL)
    fleet.wait()
    assert len(fleet.said("produces")) == 2
    assert fleet.said("got") == [["coalesced", "True"]] * 10
    assert sorted(fleet.said("takeovers")) == [["0"], ["1"]]


def test_when_who_computes_is_killed_one_other_does(fleet: Fleet) -> None:
    fleet.start("compute", 1, "hang")
    victim = fleet.pid_that_says("hangs")
    for _ in range(2):
        fleet.start("compute", 5)
    os.kill(victim, signal.SIGKILL)
    fleet.wait()
    assert len(fleet.said("produces")) == 2
    assert [whole for _, whole in fleet.said("got")] == ["True"] * 10
