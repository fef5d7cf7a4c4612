"""Ctrl-C and SIGTERM, whenever they come, leave no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.ending import SIGNALS, interruptible, running, until_interrupted
from loadtest.bench.processes import Child
from tests.support.waiting import DEADLINE_S

SLEEP = ["sleep", "600"]
CORES = frozenset(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _nothing_runs() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert not running
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """SIGTERM comes when a process was made and nobody has it yet. Gives its process id."""
    made: list[int] = []
    real = subprocess._fork_exec  # type: ignore[attr-defined]

    def fork_exec(*arguments: Any) -> int:
        made.append(real(*arguments))
        os.kill(os.getpid(), signal.SIGTERM)
        return made[-1]

    monkeypatch.setattr(subprocess, "_fork_exec", fork_exec)
    return made


def test_a_signal_while_a_process_starts_ends_that_process_too(tmp_path: Path, interrupted_start: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        Child.start("sleeper", SLEEP, CORES, tmp_path)
    assert len(interrupted_start) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(interrupted_start[0], 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_what_nobody_stopped_is_stopped_at_the_end_undisturbed_by_a_second_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    children = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        children = [Child.start(f"sleeper-{each}", SLEEP, CORES, tmp_path) for each in range(2)]
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            children[0].stop()
    assert [child.process.returncode for child in children] == [-signal.SIGTERM] * 2


def test_a_process_that_another_thread_starts_is_stopped_too(tmp_path: Path, interrupted_start: list[int]) -> None:
    started = threading.Event()

    def start() -> None:
        Child.start("sleeper", SLEEP, CORES, tmp_path)
        started.set()

    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            threading.Thread(target=start).start()
            started.wait(DEADLINE_S)
        finally:
            assert started.wait(DEADLINE_S)
    with pytest.raises(ProcessLookupError):
        os.kill(interrupted_start[0], 0)


async def test_a_second_signal_does_not_interrupt_the_cleaning_up_of_a_loop() -> None:
    steps = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(DEADLINE_S)
        finally:
            steps.append("cleaning up")
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(10):
                await asyncio.sleep(0.01)
            steps.append("clean")

    with interruptible(), pytest.raises(asyncio.CancelledError):
        await until_interrupted(work())
    assert steps == ["cleaning up", "clean"]
