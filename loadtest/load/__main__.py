"""`python -m loadtest.load`: start everything, let Locust's users in, print what they have seen, judge."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtest.bench.ending import interruptible
from loadtest.bench.errors import BenchError
from loadtest.bench.servers.gateway import DEFAULT_COMMAND, MAX_CONNECTIONS
from loadtest.bench.stages import Stages
from loadtest.load.locust import Locust, Outcome
from loadtest.load.plan import Plan
from loadtest.load.report import show, verdict_of
from loadtest.load.sample import CONFIG, api_key, site_of
from loadtest.load.traffic import Traffic
from loadtest.scale.results import Verdict
from loadtest.scale.site import SiteMeter, started

FILE_COLUMNS: Final = 150
WORKERS: Final = 2
LOOK_S: Final = 0.5
FALLEN_BEHIND: Final = "gateway_subscribers_behind_total"
REPORTS: Final = Path("artifacts") / "load"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 when a threshold is broken, 2 when it could not run, 3 when times could not be judged, or 130."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, highlight=False)
    stages = Stages(console, "load")
    try:
        plan = Plan().scaled(options.scale).with_users(options.users)
        plan = replace(plan, seconds=options.seconds, processes=options.processes)
        with interruptible(), stages.shown(2):
            outcome = run(plan, stages, options.reports.resolve(), options.gateway_command)
    except (BenchError, ValueError) as error:
        console.print(f"[red]Cannot be run:[/] {error}")
        return Verdict.CANNOT_RUN
    except KeyboardInterrupt:
        return Verdict.INTERRUPTED
    show(outcome, console)
    console.print(f"reports: {options.reports}.html, {options.reports}_stats.csv …", style="dim")
    return verdict_of(outcome)


def run(plan: Plan, stages: Stages, reports: Path, command: str = DEFAULT_COMMAND) -> Outcome:
    """The whole run. Raises BenchError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-load-")))
        key = api_key()
        with stages.stage(f"starting Redis and a gateway with {WORKERS} workers"):
            site = stack.enter_context(
                started(
                    folder,
                    workers=WORKERS,
                    max_connections=MAX_CONNECTIONS,
                    config=CONFIG.format(api_key=key),
                    command=command,
                )
            )
        traffic = Traffic(site.redis_path, site.server.name, plan)
        traffic.start()
        target = site_of(site, key, plan, folder)
        try:
            locust = Locust.start(plan, target, reports)
            stack.callback(locust.stop)
            with stages.stage(f"{plan.total:,} users for {plan.seconds} s", plan.seconds) as progress:
                begin = time.monotonic()
                meter = SiteMeter(site, [locust.pid])
                meter.begin()
                own_s = time.process_time()
                while not locust.ended:
                    site.server.child.check_alive()
                    time.sleep(LOOK_S)
                    meter.look()
                    progress(min(plan.seconds, int(time.monotonic() - begin)))
                    stages.now(locust.now())
                shares = meter.end()
                shares = shares.with_role("publishers", (time.process_time() - own_s) / shares.seconds)
            behind = sum(site.by_worker(FALLEN_BEHIND).values())
        finally:
            traffic.stop()
        outcome = locust.outcome()
        if plan.users["SlowReader"] and not behind:
            outcome.lost.append("no slow reader ever fell behind: nothing was asked of the gateway")
        if shares.disturbed and not outcome.excuse:
            outcome.excuse = f"other programs used {shares.others:.2f} of {shares.cores} cores"
        return outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.load", description="Users of all kinds, with thresholds.")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the users over WebSocket")
    parser.add_argument("--users", nargs="*", default=[], metavar="KIND=N", help="other numbers of some kinds")
    parser.add_argument("--seconds", type=int, default=Plan().seconds)
    parser.add_argument("--processes", type=int, default=1, help="of Locust")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="beginning of the reports' names")
    parser.add_argument("--gateway-command", default=DEFAULT_COMMAND, help="another build of the gateway")
    return parser


if __name__ == "__main__":
    sys.exit(main())
