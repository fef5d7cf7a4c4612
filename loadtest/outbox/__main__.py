"""`python -m loadtest.outbox faults` and `… bench`."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtest.bench.ending import INTERRUPTED, run_until_interrupted
from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import DEFAULT_COMMAND, Gateway
from loadtest.faults.plan import Plan
from loadtest.faults.redis_server import RedisServer
from loadtest.outbox.bench import Figures, bench
from loadtest.outbox.databases import Database, Postgres, Sqlite, binaries
from loadtest.outbox.faults import Faults, Verdict

RELAYS: Final = 3
FILE_COLUMNS: Final = 140


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when every requirement is met, 1 when one is not, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    try:
        names = _measured(options, console)
        if options.what == "faults":
            return _show([run_until_interrupted(_faults(name, options, console)) for name in names], console)
        _show_figures([run_until_interrupted(_bench(name, options, console)) for name in names], console)
    except BenchError as error:
        console.print(f"[red]This cannot be run:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _measured(options: argparse.Namespace, console: Console) -> tuple[str, ...]:
    """The databases. The bench, a part of `make bench`, goes on without a PostgreSQL that is not installed."""
    if options.database != "both":
        return (options.database,)
    try:
        binaries()
    except BenchError as missing:
        if options.what == "faults":
            raise
        console.print(f"PostgreSQL is not measured: {missing}", highlight=False)
        return ("sqlite",)
    return ("postgresql", "sqlite")


async def _faults(name: str, options: argparse.Namespace, console: Console) -> Verdict:
    with _running(name, RELAYS) as (database, gateways, redis):
        rows = options.rows or 50_000
        return await Faults(
            database, gateways, redis, Stages(console, "outbox"), rows=rows, away_s=options.away_s
        ).run()


async def _bench(name: str, options: argparse.Namespace, console: Console) -> Figures:
    with _running(name, 1) as (database, gateways, redis):
        return await bench(database, gateways[0], redis.url, Stages(console, "outbox"), rows=options.rows or 20_000)


@contextlib.contextmanager
def _running(name: str, relays: int) -> Iterator[tuple[Database, list[Gateway], RedisServer]]:
    """Redis, the database with its table, and gateways. All are gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gw-outbox-", dir="/tmp"))
    folder.chmod(0o755)  # the user of PostgreSQL must get through
    data = folder / "db"
    data.mkdir()
    database: Database = Postgres(data) if name == "postgresql" else Sqlite(data)
    redis = RedisServer(folder)
    gateways: list[Gateway] = []
    settings = {"GATEWAY_OUTBOX__URL": database.url, "GATEWAY_OUTBOX__LEASE_S": "2"}
    command = f"env {' '.join(shlex.quote(f'{key}={value}') for key, value in settings.items())} {DEFAULT_COMMAND}"
    try:
        redis.start()
        database.start()
        made = subprocess.run(
            [*shlex.split(DEFAULT_COMMAND), "outbox", "init"],
            env={**os.environ, **settings},
            capture_output=True,
            check=False,
        )
        if made.returncode:
            raise BenchError(f"outbox init: {made.stderr.decode().strip()}")
        for number in range(relays):
            home = folder / f"gateway-{number}"
            home.mkdir()
            gateways.append(Gateway.start(command, Plan(), redis.url, home))
        yield database, gateways, redis
    finally:
        redis.thaw()
        for gateway in gateways:
            gateway.stop()
        database.stop()
        redis.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _show(verdicts: Sequence[Verdict], console: Console) -> int:
    for verdict in verdicts:
        console.print(
            f"{verdict.database}: {verdict.rows:,} rows in {verdict.seconds:.0f} s, lost {verdict.lost:,}, doubled "
            f"{verdict.doubled:,}, out of order {verdict.out_of_order:,}; {verdict.killed_in_between:,} rows were "
            "published and still in the table when the relays were killed",
            highlight=False,
        )
    violations = [sentence for verdict in verdicts for sentence in verdict.violations()]
    for sentence in violations:
        console.print(f"[red]FAIL[/] {sentence}", highlight=False)
    if not violations:
        console.print("[green]PASS[/] nothing lost, nothing doubled, order kept", highlight=False)
    return 1 if violations else 0


def _show_figures(figures: Sequence[Figures], console: Console) -> None:
    for each in figures:
        console.print(
            f"{each.database}: {each.rows_per_s:,.0f} rows/s, plain publishing {each.plain_per_s:,.0f}/s, ratio "
            f"{each.rows_per_s / each.plain_per_s:.2f}; commit → client p50 {each.p50_ms:.1f} ms, "
            f"p99 {each.p99_ms:.1f} ms",
            highlight=False,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.outbox", description=__doc__)
    parser.add_argument("what", choices=("faults", "bench"))
    parser.add_argument("--database", choices=("both", "postgresql", "sqlite"), default="both")
    parser.add_argument("--rows", type=int, default=0, help="faults: 50,000; bench: 20,000")
    parser.add_argument("--away-s", type=float, default=10.0, help="how long Redis is away")
    return parser


if __name__ == "__main__":
    sys.exit(main())
