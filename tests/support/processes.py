"""Looking at processes from tests, and ending them.

Any of them may end between two looks: what is said here of a process that has just gone is that it does not run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from loadtest.bench.processes import descendants
from tests.support.waiting import DEADLINE_S, wait_until


def is_running(process: int | psutil.Process) -> bool:
    """Whether it is there and not a zombie that waits for its parent (here often init, which may take its time)."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return bool(found.is_running() and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def those(processes: Iterable[psutil.Process], condition: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Those that are there and meet the condition."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if condition(process):
                found.append(process)
    return found


def is_redis(process: psutil.Process) -> bool:
    return bool(process.name().startswith("redis-server"))


async def wait_gone(processes: Iterable[psutil.Process], *, timeout_s: float = DEADLINE_S) -> None:
    """Wait until none of them runs. Fails the test when one does after `timeout_s`."""
    known = list(processes)
    await wait_until(lambda: not any(map(is_running, known)), "every process has ended", timeout_s=timeout_s)


def kill_all(process: subprocess.Popen[Any], others: Iterable[psutil.Process] = ()) -> None:
    """SIGKILL to a process of ours, to all that it has started, and to `others`. Harmless when it has ended."""
    family = list(others)
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)  # so that it starts nothing in place of what is killed
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        family += descendants(process.pid)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.kill()
    process.wait(DEADLINE_S)
