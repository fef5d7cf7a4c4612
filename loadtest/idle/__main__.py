"""`python -m loadtest.idle`: measure, print, say whether the target is met."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.bench.ending import INTERRUPTED, interruptible
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.processes import split_cores
from loadtest.bench.redis_server import start_redis
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.servers.server import Surroundings
from loadtest.idle.measure import Rest, Storm, rest, storm

TARGET_PERCENT: Final = 5.0
"""CPU of one core that 10,000 idle clients may take."""
FILES_RESERVE: Final = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run. Times in seconds: a ping interval is 25."""

    clients: int = 10_000
    settle_s: float = 50.0
    rest_s: float = 50.0
    storm_clients: int = 10_000
    rounds: int = 3


SMALL: Final = Plan(clients=1_000, settle_s=2.0, rest_s=10.0, storm_clients=1_000, rounds=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, with `--strict` 1 when the target is missed, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    plan = SMALL if options.small else Plan()
    if raise_file_limit() < max(plan.clients, plan.storm_clients) + FILES_RESERVE:
        console.print("[red]Too few open files are allowed:[/] raise `ulimit -n`, or use --small")
        return 2
    try:
        with interruptible(), tempfile.TemporaryDirectory(prefix="nexus-idle-") as name:
            return _run(plan, options, Path(name), console)
    except BenchError as error:
        console.print(f"[red]Cannot be measured:[/] {error}")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(plan: Plan, options: argparse.Namespace, folder: Path, console: Console) -> int:
    cores = split_cores()
    redis, redis_path = start_redis(cores.client, folder)
    around = Surroundings(cores, folder, redis_path)
    try:
        storms: list[Storm] = []
        for number in range(0 if options.no_storm else plan.rounds):
            for per_s in (0.0, *options.pace):
                console.print(f"storm {number + 1} of {plan.rounds}, pace {per_s:g}/s …", style="dim")
                storms.append(storm(around, options.gateway_command, plan.storm_clients, per_s))
        if storms:
            console.print(_storms(plan, storms))
        if options.no_rest:
            return 0
        console.print(f"{plan.clients:,} clients at rest, {plan.settle_s + plan.rest_s:g} s …", style="dim")
        at_rest = rest(around, options.gateway_command, plan.clients, plan.settle_s, plan.rest_s)
    finally:
        redis.stop()
    met = at_rest.percent <= TARGET_PERCENT
    console.print(_rest(at_rest, met))
    return 1 if options.strict and not met else 0


def _storms(plan: Plan, storms: list[Storm]) -> Table:
    table = Table(title=f"Round trip of a ping while {plan.storm_clients:,} clients connect at once")
    for heading in ("pace", "connected", "refused", "clients/s", "p50", "p99", "longest"):
        table.add_column(heading, justify="right")
    for each in sorted(storms, key=lambda one: one.per_s):
        table.add_row(
            f"{each.per_s:g}/s" if each.per_s else "none",
            f"{each.connected:,}",
            f"{each.refused:,}",
            f"{each.clients_per_s:,.0f}",
            f"{each.p50_ms:.1f} ms",
            f"{each.p99_ms:.1f} ms",
            f"{each.longest_ms:.1f} ms",
        )
    return table


def _rest(at_rest: Rest, met: bool) -> str:
    verdict = "[green]met[/]" if met else "[red]missed[/]"
    return (
        f"{at_rest.clients:,} idle clients: {at_rest.percent:.1f} % of a core "
        f"({100 * at_rest.user_s / at_rest.seconds:.1f} % in user mode) over {at_rest.seconds:.0f} s; "
        f"target {TARGET_PERCENT:g} % {verdict}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.idle", description="CPU at rest, and latency in a storm.")
    parser.add_argument("--small", action="store_true", help="1,000 clients, rougher figures")
    parser.add_argument("--strict", action="store_true", help="status 1 when the target is missed")
    parser.add_argument("--no-storm", action="store_true", help="only measure the clients at rest")
    parser.add_argument("--no-rest", action="store_true", help="only measure the storm")
    parser.add_argument("--pace", type=float, nargs="+", default=[2000.0, 4000.0], help="handshakes_per_s beside none")
    parser.add_argument("--gateway-command", default=DEFAULT_COMMAND, help="what starts the gateway")
    return parser


if __name__ == "__main__":
    sys.exit(main())
