"""Results → tables for people."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.scale.results import KIB_TARGET, Results, Verdict
from loadtest.scale.shares import Shares


def show(results: Results, console: Console) -> None:
    """Print everything."""
    console.print()
    console.print(_figures(results))
    console.print(_limits(results))
    say_verdict(
        results.verdict(), [*results.failures(), *results.too_large(), *results.slow()], results.excuse(), console
    )


def say_verdict(verdict: Verdict, reasons: list[str], excuse: str, console: Console) -> None:
    """The last lines of every load test."""
    word, colour = {
        Verdict.PASSED: ("PASS", "green"),
        Verdict.FAILED: ("FAIL", "red"),
        Verdict.NOT_JUDGED: ("NOT JUDGED", "yellow"),
    }[verdict]
    for reason in reasons:
        console.print(f"[{colour}]{word}[/] {reason}", highlight=False)
    if excuse:
        console.print(f"[yellow]times are not those of a quiet machine[/]: {excuse}", highlight=False)
    if not reasons:
        console.print(f"[{colour}]{word}[/]", highlight=False)


def _figures(results: Results) -> Table:
    plan, grown = results.plan, results.grown
    table = Table(title=f"{grown.connections:,} connections", title_justify="left", show_header=False, box=SIMPLE)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    table.add_row("connected", f"{grown.connections:,}", f"of {plan.connections:,}, each with a token and a channel")
    if grown.gave_way:
        table.add_row("gave way first", "", grown.gave_way)
    held = sorted(results.by_worker.values())
    spread = f"{held[0]:,}–{held[-1]:,} each" if held else ""
    table.add_row("workers", f"{plan.workers}", f"{spread}; {results.idle_worker_mib:.0f} MiB each without clients")
    table.add_row("generators", f"{plan.generators}")
    table.add_row("opened in", f"{grown.elapsed_s:.1f} s", f"{grown.per_s:,.0f}/s; {_cores(results.opening)}")
    table.add_row("RSS per connection", f"{results.rss_kib:.1f} KiB", f"of the workers; allowed {KIB_TARGET:g}")
    table.add_row("PSS per connection", f"{results.pss_kib:.1f} KiB", "of the workers")
    table.add_row("memory per connection", f"{results.machine_kib:.1f} KiB", "of the machine: both ends, kernel, all")
    if results.rest is not None:
        pings = f"a ping every {plan.ping_interval_s:g} s"
        table.add_row(
            "CPU at rest", f"{results.rest.percent('gateway'):.1f} %", f"of a core; {pings}; {_cores(results.rest)}"
        )
    if results.broadcasts:
        worst = max(each.last_ms for each in results.broadcasts) / 1000
        p50 = sorted(each.p50_ms for each in results.broadcasts)[len(results.broadcasts) // 2]
        table.add_row(
            "broadcast to all",
            f"{results.broadcast_s:.2f} s",
            f"median of {len(results.broadcasts)}, worst {worst:.2f} s, allowed {results.broadcast_target_s:.2f} s; "
            f"half have it after {p50 / 1000:.2f} s",
        )
        table.add_row("CPU per delivery", f"{results.cpu_us_per_delivery:.1f} µs", _cores(results.delivering))
    return table


def _cores(shares: Shares | None) -> str:
    if shares is None:
        return ""
    used = ", ".join(f"{role} {cores:.2f}" for role, cores in shares.by_role.items())
    return f"cores: {used}, others {shares.others:.2f}"


def _limits(results: Results) -> Table:
    table = Table(title="Limits of the machine", title_justify="left", box=SIMPLE)
    table.add_column("limit", no_wrap=True)
    for heading in ("used", "of", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for limit in results.limits:
        table.add_row(limit.name, f"{limit.used:,}", f"{limit.most:,}", f"{100 * limit.share:.1f} %")
    return table
