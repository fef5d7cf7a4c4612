"""Results → tables for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.faults.memory import MIB
from loadtest.faults.results import Results


def show(results: Results, console: Console) -> None:
    """Print everything."""
    console.print()
    console.print(_faults(results))
    console.print(_totals(results))
    violations = results.violations()
    for example in results.totals.examples:
        console.print(f"lost by {example}", style="dim", highlight=False)
    for sentence in violations:
        console.print(f"[red]FAIL[/] {sentence}", highlight=False)
    if not violations:
        console.print(
            "[green]PASS[/] nothing lost, doubled or out of order; nobody disconnected who need not be; "
            "memory within the budgets",
            highlight=False,
        )


def _faults(results: Results) -> Table:
    table = Table(title="Healing, from the end of a fault", title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column("fault", no_wrap=True)
    for heading in ("clients", "p50 ms", "max ms", "unhealed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in results.healed:
        clients = len(each.times_ms) + each.unhealed
        table.add_row(each.fault, f"{clients:,}", _figure(each.p50_ms), _figure(each.max_ms), f"{each.unhealed:,}")
    return table


def _totals(results: Results) -> Table:
    table = Table(title="Totals", title_justify="left", show_header=False, box=SIMPLE, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    totals, memory = results.totals, results.memory
    table.add_row("published", f"{totals.published:,}", f"sent again until accepted: {totals.repeated:,}")
    table.add_row("delivered", f"{totals.delivered:,}", f"of these by recovery: {totals.recovered:,}")
    table.add_row("lost", f"{totals.lost:,}")
    table.add_row("doubled", f"{totals.doubled:,}")
    table.add_row("out of order", f"{totals.out_of_order:,}")
    table.add_row("told of a new epoch", f"{totals.told:,}", "subscriptions")
    table.add_row("discarded with a master", f"{totals.discarded:,}", "offsets, delivered before subscribers were told")
    for name, reasons in (
        ("disconnected, as it had to be", results.excused),
        ("disconnected otherwise", results.departures),
        ("vanished, ended by the gateway", results.ghosts),
        ("told", results.notices),
    ):
        table.add_row(name, f"{sum(reasons.values()):,}", _listed(reasons))
    table.add_row("found too slow", f"{results.fell_behind:,}", "times, while clients did not read")
    if memory is not None:
        grown, bound = memory.growth / MIB, memory.bound_growth / MIB
        before = ", ".join(
            f"{worker} {held / MIB:.0f} → {memory.most[worker] / MIB:.0f} MiB"
            for worker, held in sorted(memory.before.items())
        )
        table.add_row("memory while clients hang", f"+{grown:.0f} MiB", f"allowed: +{bound:.0f} MiB ({before})")
    return table


def _listed(reasons: Mapping[str, int]) -> str:
    return "\n".join(f"{count:,} × {reason}" for reason, count in sorted(reasons.items(), key=lambda each: -each[1]))


def _figure(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
