"""`python -m loadtest.faults`: run the faults, print what was lost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console

from loadtest.bench.ending import INTERRUPTED, run_until_interrupted
from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import DEFAULT_COMMAND
from loadtest.faults.plan import SMALL, Plan
from loadtest.faults.report import show
from loadtest.faults.run import run

FILE_COLUMNS = 140


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when every requirement is met, 1 when one is not, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    plan = SMALL if options.small else Plan()
    try:
        results = run_until_interrupted(run(plan, options.gateway_command, Stages(console, "faults")))
    except BenchError as error:
        console.print(f"[red]The faults cannot be run:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    show(results, console)
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(results.as_document(), option=orjson.OPT_INDENT_2) + b"\n")
    return 1 if results.violations() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.faults",
        description="Break what is around a gateway while publications flow, and count what its clients lose.",
    )
    parser.add_argument("--small", action="store_true", help="half a minute: fewer clients, shorter faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--gateway-command", default=DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
