"""`python -m loadtest.peers`: measure, print, write `artifacts/peers.json` and, with `--write`, into the documents."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from loadtest.bench.ending import INTERRUPTED, interruptible
from loadtest.bench.errors import BenchError
from loadtest.bench.machine import describe
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.servers.registry import PEERS
from loadtest.peers.document import written
from loadtest.peers.plan import FULL, QUICK
from loadtest.peers.report import Report, markdown, peer_versions, short, show
from loadtest.peers.run import run

FILE_COLUMNS: Final = 180
JSON_OPTIONS: Final = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
ARTIFACTS: Final = Path("artifacts")
DOCUMENT: Final = Path(__file__).resolve().parents[1] / "PEERS.md"
README: Final = DOCUMENT.parents[1] / "README.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when it ran, 2 when it could not, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    plan = QUICK if options.quick else FULL
    if options.rounds is not None:
        plan = replace(plan, lanes=replace(plan.lanes, rounds=options.rounds))
    try:
        with interruptible():
            outcome = run(plan, options.only, options.gateway_command, console)
    except BenchError as error:
        console.print(f"[red]The peers cannot be measured:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    now = datetime.now(UTC).date().isoformat()
    report = Report(plan, describe(outcome.cores), now, peer_versions(), outcome)
    show(report, console)
    text = markdown(report)
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / "peers.json").write_bytes(orjson.dumps(report.as_document(), option=JSON_OPTIONS) + b"\n")
    (ARTIFACTS / "peers.md").write_text(text)
    console.print(f"Written to {ARTIFACTS}/peers.json and {ARTIFACTS}/peers.md", highlight=False)
    if options.write:
        for document, part in ((DOCUMENT, text), (README, short(report))):
            document.write_text(written(document.read_text(), part))
            console.print(f"Written to {document.name}, between its marks", highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.peers",
        description="This gateway beside other servers: connections, memory, CPU, latency, clients that stop reading.",
    )
    parser.add_argument("--quick", action="store_true", help="about two minutes, fewer connections, rougher figures")
    parser.add_argument(
        "--only", type=_names, default=PEERS, metavar="NAMES", help=f"comma-separated, of: {', '.join(PEERS)}"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (default 5)")
    parser.add_argument("--write", action="store_true", help="put the tables into loadtest/PEERS.md and README.md")
    parser.add_argument(
        "--gateway-command", default=DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    return parser


def _names(text: str) -> tuple[str, ...]:
    asked = {name.strip() for name in text.split(",") if name.strip()}
    unknown = asked - set(PEERS)
    if unknown or not asked:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown)) or 'nothing'}; there are {', '.join(PEERS)}"
        )
    return tuple(name for name in PEERS if name in asked)


if __name__ == "__main__":
    sys.exit(main())
