"""One run: what is missing is installed, then Redis, the lanes, the rounds, and clients that stop reading."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from loadtest.bench.errors import AbsentError, BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.lanes import SideBySide
from loadtest.bench.processes import Cores, split_cores
from loadtest.bench.redis_server import start_redis
from loadtest.bench.results import Measured
from loadtest.bench.run import FILES_RESERVE
from loadtest.bench.servers import centrifugo, npm
from loadtest.bench.servers.registry import FROM_GO, FROM_NPM, starter
from loadtest.bench.servers.server import Surroundings
from loadtest.bench.stages import Stages
from loadtest.bench.stalling import Stalled
from loadtest.peers.plan import PeersPlan
from loadtest.peers.stall import measure_stalled

NO_SERVER = "floor"
"""It has nothing for clients that do not read: it waits for them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, and by server why the rest was not."""

    cores: Cores
    measured: Sequence[Measured]
    stalled: dict[str, Stalled]
    absent: dict[str, str]


def run(plan: PeersPlan, names: Sequence[str], gateway_command: str, console: Console) -> Outcome:
    """Measure the servers `names`. Raises `BenchError` when nothing can be measured at all (no Redis)."""
    stages = Stages(console, "peers")
    plan = _within_file_limit(plan)
    with _surroundings() as around, stages.shown((4 + plan.lanes.rounds) * len(names)):
        absent = install(names, stages)
        there = [name for name in names if name not in absent]
        lanes = SideBySide(plan.lanes, around, stages)
        with ExitStack() as stack:
            for name in there:
                lanes.open(name, starter(name, gateway_command), stack)
            lanes.run_rounds()
        absent |= lanes.absent
        stalled: dict[str, Stalled] = {}
        for name in there:
            if name == NO_SERVER or name in absent:
                continue
            try:
                with stages.stage(f"{name}: {plan.stall.stalled} clients beside {plan.stall.readers} do not read"):
                    stalled[name] = measure_stalled(name, starter(name, gateway_command), around, plan.stall)
            except BenchError as error:
                absent[f"{name}, clients that stop reading"] = f"failed: {error}"
        return Outcome(around.cores, [lane.measured for lane in lanes.lanes], stalled, absent)


def install(names: Sequence[str], stages: Stages) -> dict[str, str]:
    """Install what comes from npm and Go, where those are there. Returns by server why it cannot be had."""
    absent: dict[str, str] = {}
    kinds: tuple[tuple[frozenset[str], str, Callable[[], None]], ...] = (
        (FROM_NPM, "packages from npm (the first time: npm ci, about 100 MB)", npm.install),
        (FROM_GO, "Centrifugo (the first time: go build, several minutes)", centrifugo.build),
    )
    for kind, text, make in kinds:
        asked = [name for name in names if name in kind]
        if not asked:
            continue
        try:
            with stages.stage(text):
                make()
        except AbsentError as error:
            absent |= dict.fromkeys(asked, str(error))
            stages.say(f"  [yellow]not measured: {', '.join(asked)}[/]: {error}")
    return absent


@contextmanager
def _surroundings() -> Iterator[Surroundings]:
    cores = split_cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-peers-")))
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores.client)
        redis, redis_path = start_redis(cores.client, folder)
        stack.callback(redis.stop)
        yield Surroundings(cores, folder, redis_path)


def _within_file_limit(plan: PeersPlan) -> PeersPlan:
    most = raise_file_limit() - FILES_RESERVE
    lanes = plan.lanes
    kept = min(lanes.cost_connections, most)
    return replace(
        plan,
        lanes=replace(
            lanes,
            connections=min(lanes.connections, most),
            cost_connections=kept,
            reopen_connections=min(lanes.reopen_connections, most - kept),
        ),
    )
