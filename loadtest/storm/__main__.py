"""`python -m loadtest.storm`: run the scenarios, print what they found, judge."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.bench.ending import interruptible
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.stages import Stages
from loadtest.load import plan as load
from loadtest.load.locust import Locust
from loadtest.load.report import show_rows
from loadtest.load.sample import CONFIG, api_key, site_of
from loadtest.load.traffic import Traffic
from loadtest.scale.plan import Plan, plan_for
from loadtest.scale.report import say_verdict
from loadtest.scale.results import Verdict
from loadtest.scale.site import everywhere, started
from loadtest.scale.swarm import Swarm
from loadtest.storm.results import Results, Scenario
from loadtest.storm.scenarios import Scenarios, Sizes

CLIENTS: Final = 10_000
PER_GENERATOR: Final = 5_000
WORKERS: Final = 2
FILE_COLUMNS: Final = 150
MODULE: Final = "loadtest.storm.generator"
REPORTS: Final = Path("artifacts") / "storm"
CHANNEL: Final = "storm"
DRAIN_WINDOW_S: Final = 5.0
SAMPLE: Final = {"Idle": 20, "Chatty": 5, "Reconnecting": 10, "ApiUser": 5}
API_REQUESTS: Final = 30
TOLERATED: Final = ("connection",)
"""Workers are killed and replaced: connections end."""
LONGEST_S: Final = 900


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 = something is lost or late, 2 = could not run, 3 = times could not be judged, or 130."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, highlight=False)
    stages = Stages(console, "storm")
    reports = options.reports.resolve()
    try:
        plan = storm_plan(options.clients, raise_file_limit(), len(os.sched_getaffinity(0)))
        sizes = Sizes(churn_per_s=plan.connections * 0.03)
        with interruptible(), stages.shown(7):
            results = run(plan, sizes, stages, reports, options.gateway_command)
    except (BenchError, ValueError) as error:
        console.print(f"[red]Cannot be run:[/] {error}")
        return Verdict.CANNOT_RUN
    except KeyboardInterrupt:
        return Verdict.INTERRUPTED
    show(results, console)
    write(results, reports)
    console.print(f"reports: {options.reports}.csv; the sample's: {options.reports}-sample.html …", style="dim")
    return results.verdict()


def storm_plan(clients: int, files: int, cores: int) -> Plan:
    """Two workers that could each hold all, generators of 5,000, everybody at once. Raises ValueError."""
    plan = plan_for(clients, files, workers=WORKERS, cores=cores)
    generators = -(-clients // PER_GENERATOR)
    return replace(plan, generators=generators, batch=-(-clients // generators))


def run(plan: Plan, sizes: Sizes, stages: Stages, reports: Path, command: str = DEFAULT_COMMAND) -> Results:
    """The whole run. Raises BenchError."""
    results = Results()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-storm-")))
        key = api_key()
        with stages.stage(f"starting Redis and a gateway with {plan.workers} workers"):
            site = stack.enter_context(
                started(
                    folder,
                    workers=plan.workers,
                    max_connections=plan.max_connections,
                    config=CONFIG.format(api_key=key),
                    command=f"env GATEWAY_SERVER__DRAIN_WINDOW_S={DRAIN_WINDOW_S} {command}",
                    channels=[CHANNEL],
                )
            )
        with stages.stage(f"{plan.generators} generators sign {plan.connections:,} tokens"):
            swarm = stack.enter_context(Swarm.start(plan, site.target, everywhere(), folder, MODULE))
        users = load.Plan(users=SAMPLE, seconds=LONGEST_S, api_requests=API_REQUESTS)
        traffic = Traffic(site.redis_path, site.server.name, users)
        traffic.start()
        try:
            sample = site_of(site, key, users, folder, TOLERATED)
            locust = Locust.start(users, sample, reports.with_name(f"{reports.name}-sample"))
            stack.callback(locust.stop)
            with stages.stage(f"a sample: {users.total} users of Locust come"):
                locust.wait_users(users.total)
            for name, work in Scenarios(plan, sizes, site, swarm, [locust.pid]).all():
                scenario = Scenario(name)
                with stages.stage(name):
                    work(scenario)
                results.scenarios.append(scenario)
                stages.now(locust.now())
            with stages.stage("the sample leaves"):
                results.sample = locust.finish()
        finally:
            traffic.stop()
    return results


def show(results: Results, console: Console) -> None:
    """Print it."""
    table = Table(title="Storms", title_justify="left", box=SIMPLE, pad_edge=False)
    for heading in ("scenario", "figure", "seen (allowed)"):
        table.add_column(heading, no_wrap=True)
    for each in results.scenarios:
        for number, (what, value) in enumerate(each.figures.items()):
            table.add_row("" if number else each.name, what, value)
        shares = each.shares
        if shares is not None:
            used = ", ".join(f"{role} {cores:.2f}" for role, cores in sorted(shares.by_role.items()))
            table.add_row("", "cores", f"{used}, others {shares.others:.2f}")
    console.print(table)
    if results.sample is not None:
        show_rows(results.sample, console)
    late = results.late()
    excuses = sorted({excuse for _, excuse in late if excuse})
    say_verdict(results.verdict(), [*results.lost(), *(line for line, _ in late)], "; ".join(excuses), console)


def write(results: Results, reports: Path) -> None:
    """A CSV file of all figures."""
    reports.parent.mkdir(parents=True, exist_ok=True)
    with reports.with_name(f"{reports.name}.csv").open("w", newline="") as file:
        rows = results.as_rows()
        writer = csv.DictWriter(file, ["scenario", "figure", "value"])
        writer.writeheader()
        writer.writerows(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.storm", description="Thousands of clients at once.")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--reports", type=Path, default=REPORTS, help="beginning of the reports' names")
    parser.add_argument("--gateway-command", default=DEFAULT_COMMAND, help="another build of the gateway")
    return parser


if __name__ == "__main__":
    sys.exit(main())
