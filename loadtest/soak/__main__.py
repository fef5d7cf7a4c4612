"""`python -m loadtest.soak --minutes 10`: run it, print what is left."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.bench.ending import INTERRUPTED, run_until_interrupted
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import DEFAULT_COMMAND, HOST, NAMESPACE, PATH, WORKERS, Gateway
from loadtest.faults.plan import Plan as GatewayPlan
from loadtest.faults.publisher import Publisher, PublishScript, client_of
from loadtest.faults.record import Record
from loadtest.faults.redis_server import RedisServer
from loadtest.faults.subscriber import Surroundings
from loadtest.soak.churn import Churn, Lives
from loadtest.soak.rest import Rest, at_rest, left_over

FILE_COLUMNS: Final = 140
RATE_PER_S: Final = 40.0
PAYLOAD_BYTES: Final = 512
LOG_PAGE: Final = 1000
"""Publications of a channel that a worker has in memory at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. `reloads` are spread over the churn; the warm-up has as many clients as the churn."""

    minutes: float = 10.0
    clients: int = 400
    channels: int = 10
    reloads: int = 3
    warm_up_s: float = 20.0


@dataclass(slots=True)
class Results:
    """What has happened."""

    before: dict[str, Rest] = field(default_factory=dict)
    after: dict[str, Rest] = field(default_factory=dict)
    lives: Lives = field(default_factory=Lives)
    published: int = 0
    reloads: int = 0
    wrong: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """What must not be."""
        found = [*left_over(self.before, self.after), *self.wrong]
        if self.lives.doubled or self.lives.out_of_order:
            found.append(f"publications: {self.lives.doubled} doubled, {self.lives.out_of_order} out of order")
        if not self.lives.connected:
            found.append("nobody could connect")
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when nothing is left, 1 when something is, 2 when it could not run, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    plan = Plan(minutes=options.minutes, clients=options.clients)
    try:
        results = run_until_interrupted(run(plan, options.gateway_command, Stages(console, "soak")))
    except BenchError as error:
        console.print(f"[red]The soak cannot be run:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    show(results, console)
    return 1 if results.violations() else 0


async def run(plan: Plan, command: str, stages: Stages) -> Results:
    """The whole run. Raises BenchError."""
    raise_file_limit()
    script = PublishScript.read()
    results = Results()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-soak-")))
        stack.enter_context(stages.shown(5))
        with stages.stage("starting Redis and the gateway"):
            redis = RedisServer(folder)
            stack.callback(redis.stop)
            redis.start()
            gateway = await asyncio.to_thread(Gateway.start, command, GatewayPlan(), redis.url, folder)
            stack.callback(gateway.stop)
        record = Record()
        around = Surroundings(HOST, gateway.port, PATH, gateway.token, record)
        channels = [f"{NAMESPACE}:{number}" for number in range(plan.channels)]
        client = partial(client_of, redis.port)
        publisher = Publisher(script, client, channels, RATE_PER_S / plan.channels, PAYLOAD_BYTES, record)
        stack.push_async_callback(publisher.aclose)
        publisher.start()
        with stages.stage("warm-up: the workers see everything once"):
            # Also the newest page of every log, which is in memory while many recover after a reload.
            for _ in range(plan.channels):
                await publisher.burst(LOG_PAGE)
            await _churn(plan, channels, around, gateway, plan.warm_up_s, 1, results, counted=False)
        with stages.stage("everybody leaves"):
            results.before = await at_rest(gateway, WORKERS)
        minutes = plan.minutes
        with stages.stage(f"churn for {minutes:g} minutes: {plan.clients} clients, {plan.reloads} reloads"):
            await _churn(plan, channels, around, gateway, minutes * 60, plan.reloads, results, counted=True)
        with stages.stage("everybody leaves"):
            results.after = await at_rest(gateway, WORKERS)
        publisher.check()
        results.published = record.published
        results.wrong += [f"{count} × {what}" for what, count in record.wrong.items()]
        results.wrong += [f"the gateway logged an error: {str(line)[:200]}" for line in gateway.complaints()]
    return results


async def _churn(
    plan: Plan,
    channels: Sequence[str],
    around: Surroundings,
    gateway: Gateway,
    seconds: float,
    reloads: int,
    results: Results,
    *,
    counted: bool,
) -> None:
    churn = Churn(plan.clients, channels, around, seed=len(results.before))
    churn.start()
    try:
        for part in range(reloads + 1):
            await _wait(seconds / (reloads + 1), churn, gateway)
            if part < reloads:
                before = gateway.pids()
                gateway.reload()
                await _rolled(gateway, before)
                results.reloads += counted
    finally:
        await churn.stop()
    if counted:
        results.lives = churn.lives


async def _wait(seconds: float, churn: Churn, gateway: Gateway) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        churn.check()
        gateway.check_alive()
        await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))


async def _rolled(gateway: Gateway, before: dict[str, int]) -> None:
    """Wait until every worker is a new one and the old ones are gone. Raises BenchError."""
    until = time.monotonic() + 120.0
    while True:
        gateway.check_alive()
        rolled = all(pid not in before.values() for pid in gateway.pids().values())
        gone = not any(map(_runs, before.values()))
        if rolled and gone:
            return
        if time.monotonic() > until:
            raise BenchError("the workers were not rolled within two minutes")
        await asyncio.sleep(0.2)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def show(results: Results, console: Console) -> None:
    """Print it."""
    table = Table("worker at rest", "memory before", "after", "open files", "after", "tasks", "after")
    for worker, then in results.before.items():
        now = results.after.get(worker, then)
        table.add_row(
            worker,
            f"{then.rss_kib:,} KiB",
            f"{now.rss_kib:,} KiB ({now.rss_kib / then.rss_kib:.2f} ×)",
            *(str(number) for number in (then.files, now.files, then.tasks, now.tasks)),
        )
    console.print(table)
    lives = results.lives
    console.print(
        f"{lives.begun:,} clients came and went, {lives.slow:,} of them stopped reading for a while; "
        f"{results.published:,} publications, {results.reloads} reloads.",
        highlight=False,
    )
    violations = results.violations()
    for violation in violations:
        console.print(f"[red]FAIL[/] {violation}", highlight=False)
    if not violations:
        console.print("[green]PASS[/] nothing is left of those who have gone", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak", description="Clients come and go while workers are rolled; what is left?"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of churn (default 10)")
    parser.add_argument("--clients", type=int, default=400, help="that are connected at a time")
    parser.add_argument(
        "--gateway-command", default=DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
