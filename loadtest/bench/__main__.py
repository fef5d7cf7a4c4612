"""`python -m loadtest.bench`: measure, print, write `bench.json`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loadtest.bench.ending import INTERRUPTED, interruptible
from loadtest.bench.errors import BenchError
from loadtest.bench.plan import QUICK, Plan
from loadtest.bench.run import run
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.servers.registry import NAMES

OUTPUT = "bench.json"
FILE_COLUMNS = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when it ran, 1 with `--strict` and a target missed, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = _console()
    plan = QUICK if options.quick else Plan()
    if options.connections is not None:
        plan = replace(plan, connections=options.connections)
    if options.rounds is not None:
        plan = replace(plan, rounds=options.rounds)
    try:
        with interruptible():
            report = run(plan, options.only, options.gateway_command, console)
    except BenchError as error:
        console.print(f"[red]The benchmark cannot run:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    report.show(console)
    report.write(Path(OUTPUT))
    console.print(f"Written to {OUTPUT}", highlight=False)
    missed = any(target.passed is False for target in report.targets())
    return 1 if options.strict and missed else 0


def _console() -> Console:
    """Standard output; in a file or a pipe as wide as the tables are."""
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    return console


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description="Measure this gateway and its peers side by side: CPU per delivery, memory, handshakes, latency.",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, fewer connections, rougher figures")
    parser.add_argument(
        "--only", type=_names, default=NAMES, metavar="NAMES", help=f"comma-separated, of: {', '.join(NAMES)}"
    )
    parser.add_argument("--connections", type=_positive, metavar="N", help="connections per server (default 5000)")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds (default 10)")
    parser.add_argument(
        "--gateway-command", default=DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a target is missed")
    return parser


def _names(text: str) -> tuple[str, ...]:
    asked = {name.strip() for name in text.split(",") if name.strip()}
    unknown = asked - set(NAMES)
    if unknown or not asked:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown)) or 'nothing'}; there are {', '.join(NAMES)}"
        )
    return tuple(name for name in NAMES if name in asked)


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
