"""One run: Redis, the lanes, the rounds, the gateway's scenarios, the report. Everything it starts ends with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loadtest.bench.errors import AbsentError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.lanes import SideBySide
from loadtest.bench.machine import describe
from loadtest.bench.plan import Plan
from loadtest.bench.processes import split_cores
from loadtest.bench.redis_server import start_redis
from loadtest.bench.report import Report
from loadtest.bench.results import GatewayScenarios
from loadtest.bench.scenarios import run_scenarios
from loadtest.bench.servers import npm
from loadtest.bench.servers.registry import starter
from loadtest.bench.servers.server import Surroundings
from loadtest.bench.stages import Stages

FILES_RESERVE = 500
"""Descriptors that a process needs besides its connections."""


def run(plan: Plan, names: Sequence[str], gateway_command: str, console: Console) -> Report:
    """Measure the servers `names`. Raises `BenchError` when nothing can be measured at all (no Redis)."""
    stages = Stages(console)
    plan = within_file_limit(plan, stages)
    cores = split_cores()
    if not cores.apart:
        stages.say(
            "  [yellow]only one core: servers and clients share it, so rates and latencies are not comparable[/]"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-bench-")))
        affinity = os.sched_getaffinity(0)
        stack.callback(os.sched_setaffinity, 0, affinity)
        os.sched_setaffinity(0, cores.client)
        alone = 2 * plan.storms + 2 if "gateway" in names else 0
        stack.enter_context(stages.shown((3 + plan.rounds) * len(names) + alone + ("bun" in names)))
        redis, redis_path = start_redis(cores.client, folder)
        stack.callback(redis.stop)
        around = Surroundings(cores, folder, redis_path)
        side_by_side = SideBySide(plan, around, stages)
        with ExitStack() as lanes:
            for name in names:
                if name != "bun" or _bun_installed(side_by_side, stages):
                    side_by_side.open(name, starter(name, gateway_command), lanes)
            side_by_side.run_rounds()
        scenarios = GatewayScenarios()
        if "gateway" in names and "gateway" not in side_by_side.absent:
            scenarios = run_scenarios(plan, around, gateway_command, stages)
    measured = [lane.measured for lane in side_by_side.lanes]
    return Report(plan, describe(cores), measured, scenarios, side_by_side.absent)


def _bun_installed(side_by_side: SideBySide, stages: Stages) -> bool:
    try:
        with stages.stage("bun: checking that it is installed (the first time: npm ci, about 100 MB)"):
            npm.install()
    except AbsentError as error:
        side_by_side.drop("bun", str(error))
        return False
    return True


def within_file_limit(plan: Plan, stages: Stages) -> Plan:
    """The plan, with no more connections than one process may have files."""
    most = raise_file_limit() - FILES_RESERVE
    wide = plan.storm_connections + plan.quiet_connections
    if max(plan.connections, wide, plan.spread_connections) <= most:
        return plan
    stages.say(
        f"  [yellow]this machine allows {most + FILES_RESERVE:,} files per process: fewer connections are measured[/]"
    )
    return replace(
        plan,
        connections=min(plan.connections, most),
        storm_connections=min(plan.storm_connections, most - plan.quiet_connections),
        spread_connections=min(plan.spread_connections, most),
    )
