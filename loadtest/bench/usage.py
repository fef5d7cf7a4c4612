"""What processes use, read from /proc: CPU time and resident memory.

User and system time come from `/proc/PID/stat` (the process itself, all threads, no children) in ticks of
1/`SC_CLK_TCK` s. The kernel splits them by sampling, so the user part needs several seconds to be good for anything.
The total is exact but rounded to ticks there: it is taken in nanoseconds from `/proc/PID/task/*/schedstat` where that
exists.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STEADY_LOOKS, STEADY_INTERVAL_S, STEADY_KIB = 5, 0.2, 256


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time in seconds. `total_s` is finer than the sum of the other two."""

    user_s: float
    system_s: float
    total_s: float

    def since(self, earlier: CpuTime) -> CpuTime:
        """The difference to an earlier reading of the same processes."""
        return CpuTime(self.user_s - earlier.user_s, self.system_s - earlier.system_s, self.total_s - earlier.total_s)


def parse_stat(stat: str) -> CpuTime:
    """CPU time from the text of `/proc/PID/stat`; the command name in it may hold spaces and brackets."""
    fields = stat[stat.rindex(")") + 2 :].split()
    user, system = int(fields[11]), int(fields[12])
    return CpuTime(user / TICKS_PER_S, system / TICKS_PER_S, (user + system) / TICKS_PER_S)


def process_file(pid: int, name: str) -> str:
    """Text of `/proc/PID/NAME`. Raises `FileNotFoundError` when the process is gone, also when it goes meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except ProcessLookupError as error:  # it was there to be opened, and not any more to be read
        raise FileNotFoundError(error.errno, error.strerror, f"/proc/{pid}/{name}") from error


def cpu_time(pids: Iterable[int]) -> CpuTime:
    """CPU time of these processes together. Raises `FileNotFoundError` when one of them is gone."""
    user_s = system_s = total_s = 0.0
    for pid in pids:
        coarse = parse_stat(process_file(pid, "stat"))
        user_s += coarse.user_s
        system_s += coarse.system_s
        total_s += _scheduled_s(pid) or coarse.total_s
    return CpuTime(user_s, system_s, total_s)


def _scheduled_s(pid: int) -> float:
    """Time that the threads of `pid` have run, in seconds; 0 when this kernel does not tell."""
    run_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended, or a kernel without schedstat
            run_ns += int(process_file(pid, f"task/{thread.name}/schedstat").split()[0])
    return run_ns / 1e9


def parse_rss_kib(status: str) -> int:
    """Resident memory in KiB from the text of `/proc/PID/status`."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise FileNotFoundError("no VmRSS in /proc/PID/status: the process has ended")


def steady_rss_kib(pids: Sequence[int], deadline_s: float = 15.0) -> int:
    """`rss_kib`, of those that are there, once it has stopped growing: what still starts would be taken for growth."""
    until, steady, before = time.monotonic() + deadline_s, 0, _rss_left_kib(pids)
    while steady < STEADY_LOOKS and time.monotonic() < until:
        time.sleep(STEADY_INTERVAL_S)
        now = _rss_left_kib(pids)
        steady = steady + 1 if abs(now - before) < STEADY_KIB else 0
        before = now
    return before


def _rss_left_kib(pids: Iterable[int]) -> int:
    """`rss_kib` of those that are there: what helps at the start ends meanwhile."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError):
            total += rss_kib([pid])
    return total


def rss_kib(pids: Iterable[int]) -> int:
    """Resident memory of these processes together, in KiB; pages that they share count once for each.
    Raises `FileNotFoundError` when one of them is gone."""
    return sum(parse_rss_kib(process_file(pid, "status")) for pid in pids)
