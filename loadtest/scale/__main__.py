"""`python -m loadtest.scale --connections 100000`: hold them, measure, print, write a JSON file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from loadtest.bench.ending import interruptible
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.machine import describe
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.stages import Stages
from loadtest.scale.plan import plan_for
from loadtest.scale.report import show
from loadtest.scale.results import Verdict
from loadtest.scale.run import STAGES, run
from loadtest.scale.site import everywhere

FILE_COLUMNS: Final = 150
MIB: Final = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 when a target is missed, 2 when it could not run, 3 when times could not be judged, or 130."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, highlight=False)
    try:
        cores = len(os.sched_getaffinity(0))
        plan = plan_for(options.connections, raise_file_limit(), workers=options.workers, cores=cores)
        plan = replace(
            plan,
            channels=min(options.channels, plan.connections),
            broadcasts=options.broadcasts,
            rest_s=options.rest,
            pause_s=options.pause,
            memory_reserve_bytes=options.memory_reserve * MIB,
            ping_interval_s=options.ping_interval or plan.ping_interval_s,
        )
        stages = Stages(console, f"{plan.connections:,} connections")
        with interruptible(), stages.shown(STAGES):
            results = run(plan, stages, options.gateway_command)
    except (BenchError, ValueError) as error:
        console.print(f"[red]Cannot be measured:[/] {error}")
        return Verdict.CANNOT_RUN
    except KeyboardInterrupt:
        return Verdict.INTERRUPTED
    show(results, console)
    path = options.json or Path("artifacts") / f"scale-{plan.connections}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = results.as_document() | {"machine": describe(everywhere())}
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    console.print(f"written to {path}", style="dim")
    return results.verdict()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.scale", description="Hold many connections at once.")
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0, help="of the gateway (default: as many as it takes)")
    parser.add_argument("--channels", type=int, default=1, help="each client is subscribed to one of so many")
    parser.add_argument("--broadcasts", type=int, default=5)
    parser.add_argument(
        "--pause", type=float, default=10.0, metavar="SECONDS", help="between broadcasts (default 10); 0 = no pause"
    )
    parser.add_argument("--rest", type=float, default=30.0, metavar="SECONDS", help="without traffic (default 30)")
    parser.add_argument(
        "--ping-interval", type=float, default=0.0, metavar="SECONDS", help="default: 25, or 4,000 pings/s"
    )
    parser.add_argument("--memory-reserve", type=int, default=2048, metavar="MIB", help="stop growing below it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: artifacts/scale-CONNECTIONS.json")
    parser.add_argument("--gateway-command", default=DEFAULT_COMMAND, help="another build of the gateway")
    return parser


if __name__ == "__main__":
    sys.exit(main())
