"""A worker at rest: what it holds when nobody is connected."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import open_files
from loadtest.bench.usage import rss_kib
from loadtest.faults.gateway import Gateway

QUIET_S: Final = 8.0
"""Time without connections after which a worker counts as at rest: channels linger, presence leases are renewed."""
DEADLINE_S: Final = 60.0
LOOK_S: Final = 0.5
MORE_MEMORY: Final = 1.10
"""What a worker may have at the end, of what it had at the start."""
MORE_FILES: Final = 2
"""A Redis connection that is being renewed."""


@dataclass(frozen=True, slots=True)
class Rest:
    """One worker, or the sum of all."""

    rss_kib: int
    files: int
    tasks: int


async def at_rest(gateway: Gateway, workers: int) -> dict[str, Rest]:
    """Wait until nobody is connected and every worker is there, and a while longer. Raises BenchError."""
    until = time.monotonic() + DEADLINE_S
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S:
        gateway.check_alive()
        left = await asyncio.to_thread(gateway.gauge, "gateway_connections")
        if left or len(gateway.pids()) != workers:
            quiet_since = time.monotonic()
        if time.monotonic() > until + QUIET_S:
            raise BenchError(f"{left} connections are still there {DEADLINE_S:.0f} s after the clients have left")
        await asyncio.sleep(LOOK_S)
    tasks = await asyncio.to_thread(gateway.gauges, "gateway_tasks")
    found = {}
    for worker, pid in gateway.pids().items():
        found[worker] = Rest(rss_kib([pid]), open_files(pid), tasks[worker])
    return found


def left_over(before: dict[str, Rest], after: dict[str, Rest]) -> list[str]:
    """What is there at the end and was not at the start, a line each."""
    found = []
    for worker, now in after.items():
        then = before.get(worker)
        if then is None:
            found.append(f"{worker} was not there at the start")
            continue
        if now.rss_kib > then.rss_kib * MORE_MEMORY:
            found.append(f"{worker} has {now.rss_kib:,} KiB, at the start it had {then.rss_kib:,} KiB")
        if now.files > then.files + MORE_FILES:
            found.append(f"{worker} has {now.files} open files, at the start it had {then.files}")
        if now.tasks > then.tasks:
            found.append(f"{worker} has {now.tasks} tasks, at the start it had {then.tasks}")
    return found
