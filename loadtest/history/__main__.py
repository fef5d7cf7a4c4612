"""`python -m loadtest.history`: measure, print, say whether the targets are met."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from loadtest.bench.ending import INTERRUPTED, run_until_interrupted
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.redis_server import start_redis
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import DEFAULT_COMMAND, Gateway
from loadtest.faults.plan import Plan as GatewayPlan
from loadtest.history.publishing import Rates
from loadtest.history.publishing import measure as measure_publishing
from loadtest.history.recovery import Recovery
from loadtest.history.recovery import measure as measure_recovery

FILE_COLUMNS: Final = 140
FILES_RESERVE: Final = 500
LEAST_RATIO: Final = 0.5
"""Of the rate of plain PUBLISH."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run."""

    messages: int = 20_000
    rounds: int = 7
    clients: int = 10_000
    channels: int = 10
    missed: int = 100


QUICK: Final = Plan(messages=5_000, rounds=3, clients=1_000)


@dataclass(frozen=True, slots=True)
class Target:
    """One requirement, and what was measured."""

    text: str
    passed: bool
    measured: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, with `--strict` 1 when a target is missed, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, clients=min(plan.clients, raise_file_limit() - FILES_RESERVE))
    try:
        rates, recovery = run_until_interrupted(run(plan, options.gateway_command, Stages(console, "history")))
    except BenchError as error:
        console.print(f"[red]History cannot be measured:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    targets = targets_of(rates, recovery)
    show(rates, recovery, targets, console)
    return 1 if options.strict and not all(target.passed for target in targets) else 0


async def run(plan: Plan, command: str, stages: Stages) -> tuple[Rates, Recovery]:
    """Measure both. `command` starts the gateway. Raises BenchError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-history-")))
        stack.enter_context(stages.shown(5))
        redis, path = start_redis(frozenset(os.sched_getaffinity(0)), folder)
        stack.callback(redis.stop)
        with stages.stage(f"publishing: {plan.rounds} rounds of {plan.messages:,} with and without history"):
            python = shlex.quote(sys.executable)
            publishing = asyncio.to_thread(measure_publishing, python, f"unix://{path}", plan.messages, plan.rounds)
            rates = await publishing
        with stages.stage("gateway: starting"):
            gateway = Gateway.start(command, GatewayPlan(), f"unix://{path}", folder)
            stack.callback(gateway.stop)
        async with Redis(unix_socket_path=path) as client:
            recovery = await measure_recovery(gateway, client, plan.clients, plan.channels, plan.missed, stages)
    return rates, recovery


def targets_of(rates: Rates, recovery: Recovery) -> list[Target]:
    """What must hold."""
    return [
        Target(
            f"publish with history, of the rate of plain PUBLISH: ≥ {LEAST_RATIO}",
            rates.kept_ratio >= LEAST_RATIO,
            f"{rates.kept_ratio:.2f}",
        ),
        Target(
            f"reads of the logs while {recovery.clients:,} clients recover: ≤ {recovery.most_reads}, one for each "
            "worker and channel",
            recovery.log_reads <= recovery.most_reads,
            f"{recovery.log_reads}",
        ),
        Target(
            "clients that got all they had missed, once, in order: all",
            recovery.whole == recovery.clients,
            f"{recovery.whole:,}",
        ),
    ]


def show(rates: Rates, recovery: Recovery, targets: Sequence[Target], console: Console) -> None:
    """Print it."""
    table = Table("publishing, 100 bytes each", "per second", "of plain PUBLISH", title="History", title_justify="left")
    table.add_row("plain PUBLISH", f"{rates.plain:,.0f}", "")
    table.add_row("with history, one channel", f"{rates.kept:,.0f}", f"{rates.kept_ratio:.2f}")
    table.add_row("with history, 1,000 channels in turns", f"{rates.spread:,.0f}", f"{rates.spread_ratio:.2f}")
    console.print(table)
    console.print(
        f"{recovery.clients:,} clients on {recovery.channels} channels came back after their workers were killed, "
        f"{recovery.missed} publications missed each: {recovery.elapsed_s:.1f} s, "
        f"{recovery.log_reads} reads of the logs.",
        highlight=False,
    )
    for problem, count in recovery.wrong.most_common():
        console.print(f"  [red]{count:,} clients: {problem}[/]", highlight=False)
    for target in targets:
        mark = "[green]met[/]" if target.passed else "[red]missed[/]"
        console.print(f"  {mark}  {target.text}: {target.measured}", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.history",
        description="What history costs: publishing with it, and many clients that recover at once.",
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds: fewer messages and clients")
    parser.add_argument(
        "--gateway-command", default=DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a target is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
