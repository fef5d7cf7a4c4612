"""Who has used the machine's CPU between two moments: the gateway, Redis, the generators, and everybody else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import descendants
from loadtest.bench.usage import TICKS_PER_S, cpu_time, process_file

FOREIGN_SHARE: Final = 0.15
"""Of the machine. When other programs use more, figures say something about them."""


@dataclass(frozen=True, slots=True)
class Shares:
    """CPU in cores by role, over `seconds`; `others` is what processes took that are none of these."""

    seconds: float
    cores: int
    by_role: dict[str, float]
    others: float

    def percent(self, role: str) -> float:
        """Of one core."""
        return 100 * self.by_role[role]

    def with_role(self, role: str, used: float) -> Shares:
        """The same, with another role that was measured otherwise."""
        return replace(self, by_role=self.by_role | {role: used}, others=max(0.0, self.others - used))

    @property
    def disturbed(self) -> bool:
        """Whether other programs have used too much of the machine."""
        return self.others > FOREIGN_SHARE * self.cores


def together(parts: Sequence[Shares]) -> Shares:
    """Over several stretches of time, at least one, with the same roles."""
    seconds = sum(each.seconds for each in parts)

    def mean(used: Iterable[float]) -> float:
        return sum(cores * each.seconds for cores, each in zip(used, parts, strict=True)) / seconds

    roles = parts[0].by_role
    return Shares(
        seconds,
        parts[0].cores,
        {role: mean(each.by_role[role] for each in parts) for role in roles},
        mean(each.others for each in parts),
    )


class CpuMeter:
    """Readings of the processes of each role. `begin`, then `end`."""

    def __init__(self, pids: Mapping[str, Iterable[int]]) -> None:
        self._pids = {role: list(some) for role, some in pids.items()}
        self._at = 0.0
        self._busy_s = 0.0
        self._used: dict[str, float] = {}

    def begin(self) -> None:
        """Take the first reading. Raises BenchError when a process is gone."""
        self._at, self._busy_s, self._used = time.monotonic(), busy_s(), self._read()

    def end(self) -> Shares:
        """Take the second one. Raises as `begin`."""
        seconds = time.monotonic() - self._at
        used = {role: (now - self._used[role]) / seconds for role, now in self._read().items()}
        busy = (busy_s() - self._busy_s) / seconds
        return Shares(seconds, os.cpu_count() or 1, used, max(0.0, busy - sum(used.values())))

    def _read(self) -> dict[str, float]:
        used = {}
        for role, pids in self._pids.items():
            try:
                used[role] = cpu_time(pids).total_s
            except FileNotFoundError:
                raise BenchError(f"a process of the {role} has ended") from None
        return used


def tree_s(pid: int) -> float:
    """CPU time of a process and of all that it has started, with what has ended and was waited for; 0 = it is gone."""
    try:
        stat = process_file(pid, "stat")
    except FileNotFoundError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    total = sum(map(int, fields[11:15])) / TICKS_PER_S
    for process in descendants(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def busy_s(stat: str = "") -> float:
    """CPU time that the machine has used since it was started, from the text of `/proc/stat`."""
    text = stat or Path("/proc/stat").read_text()
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, text.splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICKS_PER_S
