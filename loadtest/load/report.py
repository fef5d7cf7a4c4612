"""What Locust's users have seen → tables for people."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.load.locust import Outcome
from loadtest.scale.report import say_verdict
from loadtest.scale.results import Verdict


def verdict_of(outcome: Outcome) -> Verdict:
    """What the exit code says."""
    if outcome.lost or (outcome.late and not outcome.excuse):
        return Verdict.FAILED
    return Verdict.NOT_JUDGED if outcome.late else Verdict.PASSED


def show(outcome: Outcome, console: Console) -> None:
    """Print everything."""
    show_rows(outcome, console)
    say_verdict(verdict_of(outcome), [*outcome.lost, *outcome.late], outcome.excuse, console)


def show_rows(outcome: Outcome, console: Console) -> None:
    """What was asked, how the generator fared, and the most frequent errors."""
    table = Table(title="What users have seen", title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column("request", no_wrap=True)
    for heading in ("requests", "failed", "average ms", "p50", "p95", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in outcome.rows:
        times = (row.average_ms, row.p50_ms, row.p95_ms, row.p99_ms)
        table.add_row(row.name, f"{row.requests:,}", f"{row.failures:,}", *(f"{ms:,.0f}" for ms in times))
    console.print(table)
    for each in outcome.generators:
        console.print(
            f"generator, {each['process']}: {each['cpu']:.2f} of a core, loop late by {each['lag_ms']} ms (p95)"
        )
    for error in outcome.errors:
        console.print(error, style="dim")
