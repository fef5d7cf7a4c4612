"""`python -m loadtest.scale.curves`: what grows with connections, channels and workers. A table, a CSV file."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
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
from loadtest.scale.plan import Plan, plan_for
from loadtest.scale.results import Results, Verdict
from loadtest.scale.run import STAGES, run

FILE_COLUMNS: Final = 150
DELIVERIES: Final = 200_000
"""At each point, about: enough of them for a figure of CPU."""
CONNECTIONS: Final = (1_000, 3_000, 10_000, 30_000, 100_000)
CHANNELS: Final = (1, 10, 100, 1_000, 10_000)
WORKERS: Final = (1, 2, 4, 8)
MANY: Final = 10_000
"""Connections where something else is what grows."""
FEWEST_WORKERS: Final = 2
SMALL: Final = 100
"""`--small` divides connections and channels by it."""
COLUMNS: Final = (
    *("curve", "connections", "channels", "workers", "connections/s", "RSS KiB", "PSS KiB"),
    *("broadcast s", "CPU µs", "others", "problem"),
)


def points(files: int, divisor: int = 1) -> Iterator[tuple[str, Plan]]:
    """Every point of every curve. Raises ValueError when processes may open too few files."""
    for connections in CONNECTIONS:
        yield "connections", _plan(connections // divisor, 1, 0, files)
    for channels in sorted({max(1, channels // divisor) for channels in CHANNELS}):
        yield "channels", _plan(MANY // divisor, channels, FEWEST_WORKERS, files)
    for workers in WORKERS:
        yield "workers", _plan(MANY // divisor, 1, workers, files)


def _plan(connections: int, channels: int, workers: int, files: int) -> Plan:
    plan = plan_for(connections, files, workers=workers, cores=FEWEST_WORKERS)
    broadcasts = min(50, max(5, DELIVERIES // connections))
    return replace(plan, channels=channels, broadcasts=broadcasts, rest_s=0.0, pause_s=0.0)


def row_of(curve: str, plan: Plan, results: Results | None, problem: str = "") -> dict[str, str]:
    """One line of the table."""
    row = dict.fromkeys(COLUMNS, "")
    row |= {"curve": curve, "channels": f"{plan.channels}", "workers": f"{plan.workers}", "problem": problem}
    row["connections"] = f"{plan.connections}"
    if results is not None:
        row |= {
            "connections/s": f"{results.grown.per_s:.0f}",
            "RSS KiB": f"{results.rss_kib:.1f}",
            "PSS KiB": f"{results.pss_kib:.1f}",
            "broadcast s": f"{results.broadcast_s:.3f}",
            "CPU µs": f"{results.cpu_us_per_delivery:.1f}",
            "others": f"{results.delivering.others:.2f}" if results.delivering else "",
            "problem": "; ".join(results.failures()),
        }
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 when a point has a problem, 2 when nothing could be measured, 3 when others were busy, or 130."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, highlight=False)
    os.makedirs(options.csv.parent, exist_ok=True)
    rows: list[dict[str, str]] = []
    disturbed = False
    try:
        wanted = [each for each in points(raise_file_limit(), SMALL if options.small else 1) if each[0] in options.only]
        stages = Stages(console, "curves")
        with interruptible(), stages.shown(STAGES * len(wanted)), options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for number, (curve, plan) in enumerate(wanted, 1):
                what = f"{plan.connections:,} connections, {plan.channels:,} channels, {plan.workers} workers"
                stages.say(f"[bold]{number} of {len(wanted)}: {what}[/]")
                try:
                    results = run(plan, stages, options.gateway_command)
                    disturbed |= results.delivering is not None and results.delivering.disturbed
                    rows.append(row_of(curve, plan, results))
                except BenchError as error:
                    rows.append(row_of(curve, plan, None, str(error).splitlines()[0]))
                writer.writerow(rows[-1])
                file.flush()
    except (ValueError, OSError) as error:
        console.print(f"[red]Cannot be measured:[/] {error}")
        return Verdict.CANNOT_RUN
    except KeyboardInterrupt:
        return Verdict.INTERRUPTED
    console.print(_table(rows))
    console.print(f"written to {options.csv}", style="dim")
    if any(row["problem"] for row in rows):
        return Verdict.FAILED
    if disturbed:
        console.print("[yellow]other programs were busy: times and CPU are not those of a quiet machine[/]")
        return Verdict.NOT_JUDGED
    return Verdict.PASSED


def _table(rows: Sequence[dict[str, str]]) -> Table:
    table = Table(title="What grows with what", title_justify="left", box=SIMPLE, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("curve", "problem") else "right")
    before = ""
    for row in rows:
        if before not in ("", row["curve"]):
            table.add_section()
        before = row["curve"]
        table.add_row(*row.values())
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.scale.curves", description="What grows with what.")
    curves = ("connections", "channels", "workers")
    parser.add_argument("--only", nargs="+", choices=curves, default=curves, help="these curves")
    parser.add_argument("--small", action="store_true", help="a hundredth of the connections")
    parser.add_argument("--csv", type=Path, default=Path("artifacts") / "curves.csv", metavar="FILE")
    parser.add_argument("--gateway-command", default=DEFAULT_COMMAND, help="another build of the gateway")
    return parser


if __name__ == "__main__":
    sys.exit(main())
