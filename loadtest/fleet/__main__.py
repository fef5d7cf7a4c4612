"""`python -m loadtest.fleet`: run the faults on Sentinel, then on a cluster, and print what was lost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from loadtest.bench.ending import INTERRUPTED, run_until_interrupted
from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import DEFAULT_COMMAND
from loadtest.faults.plan import SMALL, Plan
from loadtest.faults.report import show
from loadtest.fleet.run import FLEETS, run

FILE_COLUMNS = 140
PING_INTERVAL_S = 25.0
PONG_TIMEOUT_S = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when every requirement is met, 1 when one is not, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    plan = replace(SMALL if options.small else Plan(), ping_interval_s=PING_INTERVAL_S, pong_timeout_s=PONG_TIMEOUT_S)
    documents: dict[str, Any] = {}
    failed = False
    for kind in (options.kind,) if options.kind else tuple(FLEETS):
        console.rule(kind)
        try:
            results, possible_losses = run_until_interrupted(
                run(kind, plan, options.gateway_command, Stages(console, kind))
            )
        except BenchError as error:
            console.print(f"[red]The faults cannot be run:[/] {error}", highlight=False)
            return 2
        except KeyboardInterrupt:
            return INTERRUPTED
        show(results, console)
        console.print(
            f"channels without history that may have lost something, as the gateways say: {possible_losses:,}",
            highlight=False,
        )
        failed = failed or bool(results.violations())
        documents[kind] = results.as_document() | {"possible_losses": possible_losses}
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(documents, option=orjson.OPT_INDENT_2) + b"\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.fleet",
        description="Kill, silence and move Redis servers under two gateways, and count what their clients lose.",
    )
    parser.add_argument("kind", nargs="?", choices=tuple(FLEETS), help="only this one")
    parser.add_argument("--small", action="store_true", help="fewer clients, less time between the faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--gateway-command", default=DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
