"""Results → tables on the terminal, JSON for programs, Markdown for `loadtest/PEERS.md` and `README.md`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.bench.servers import npm
from loadtest.peers.plan import PeersPlan
from loadtest.peers.results import (
    LATENCIES,
    MEMORY,
    OPENING,
    Column,
    Figure,
    PeerRow,
    columns,
    cost,
    kept_kib,
    losses,
    outcome,
    rows_of,
    slowdown,
)
from loadtest.peers.run import Outcome

NEVER: Final = {
    "uWebSockets.js": "not on npm; Bun's server is built on the same uWebSockets",
    "Centrifugo's batching by channel": "only in its commercial edition",
}
"""What people may look for and this program cannot run."""
NOT_SHORT: Final = ("gateway-lean", "centrifugo", "socket.io")
"""Not in the short table: the gateway as nobody runs it, and others that are there in a better setting, too."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything of one run. `date` is that of its end, in UTC; `versions` those of the peers."""

    plan: PeersPlan
    machine: dict[str, Any]
    date: str
    versions: dict[str, str]
    outcome: Outcome

    def rows(self) -> list[PeerRow]:
        """One for each server that was measured."""
        return rows_of(self.outcome.measured, self.plan.lanes.passes)

    def as_document(self) -> dict[str, Any]:
        """The content of the JSON file."""
        return {
            "date": self.date,
            "machine": self.machine,
            "versions": self.versions,
            "plan": asdict(self.plan),
            "rows": [asdict(row) for row in self.rows()],
            "rounds": [asdict(one) for one in self.outcome.measured],
            "losses": losses(self.rows()),
            "stalled": {
                name: asdict(stalled) | {"kept_kib": round(kept_kib(stalled), 1), "outcome": outcome(stalled)}
                for name, stalled in self.outcome.stalled.items()
            },
            "not_measured": self.not_measured(),
        }

    def not_measured(self) -> dict[str, str]:
        """By name, why there is no row."""
        return self.outcome.absent | NEVER

    def headings(self) -> list[str]:
        """Of the first table."""
        return ["server", "empty", *(column.heading for column in columns(self.plan.lanes.passes))]

    def cells(self, row: PeerRow, lost: str = "{}") -> list[str]:
        """One line of it. `lost` is put around what the gateway loses."""
        cells = [row.server, f"{row.empty_mib:,.0f} MiB"]
        for column in columns(self.plan.lanes.passes):
            figure = row.figures[column.heading]
            cells.append(_marked(column, figure, lost))
        return cells

    def stalled_lines(self) -> list[list[str]]:
        """The second table: clients that stop reading."""
        return [
            [name, f"{kept_kib(stalled):,.0f} KiB", f"{slowdown(stalled):.2f}", outcome(stalled)]
            for name, stalled in self.outcome.stalled.items()
        ]


STALLED_COLUMNS: Final = ["server", "kept for each", "rate of the others", "what becomes of them"]


def show(report: Report, console: Console) -> None:
    """Print tables, losses and what was not measured."""
    console.print()
    _print_table(console, "Peers; in brackets the gateway's figure over theirs", report.headings(), [
        report.cells(row) for row in report.rows()
    ])  # fmt: skip
    _print_table(console, "One client in ten stops reading", STALLED_COLUMNS, report.stalled_lines())
    console.print("[bold]Where the gateway loses[/]")
    for line in losses(report.rows()) or ["nowhere in this run"]:
        console.print(f"  {line}", highlight=False)
    console.print("[bold]Not measured[/]")
    for name, reason in report.not_measured().items():
        console.print(f"  {name}: {reason}", highlight=False)


def markdown(report: Report) -> str:
    """The same for `loadtest/PEERS.md`."""
    plan = report.plan
    lines = [
        _measured_when(report),
        _measured_how(report),
        "",
        *_markdown_table(report.headings(), [report.cells(row, "**{}**") for row in report.rows()]),
        "",
        f"{plan.stall.stalled} clients beside {plan.stall.readers} do not read while {plan.stall.messages:,} messages"
        f" of {plan.stall.message_bytes:,} bytes go to all ({plan.stall.messages * plan.stall.message_bytes >> 20} MiB"
        " for each). Kept: what the server's memory grew by, for each of them. Rate of the others: messages a second,"
        " over what they had before those came.",
        "",
        *_markdown_table(STALLED_COLUMNS, report.stalled_lines()),
        "",
        "Where the gateway loses by more than 5 %:",
        "",
        *(f"* {line}" for line in losses(report.rows()) or ["nowhere in this run"]),
        "",
        "Not measured:",
        "",
        *(f"* {name}: {reason.splitlines()[0]}" for name, reason in report.not_measured().items()),
    ]
    return "\n".join(lines) + "\n"


def short(report: Report) -> str:
    """What of it stands in `README.md`: the servers at their best, no p99.9, no memory of an empty one."""
    passes = report.plan.lanes.passes
    shown = [OPENING, MEMORY, *map(cost, passes), *LATENCIES[:2]]
    headings = ["server", *(column.heading for column in shown)]
    lines = [
        [row.server, *(_marked(column, row.figures[column.heading], "**{}**") for column in shown)]
        for row in report.rows()
        if row.server not in NOT_SHORT
    ]
    return "\n".join([_measured_when(report), _measured_how(report), "", *_markdown_table(headings, lines)])


def peer_versions() -> dict[str, str]:
    """Of what comes from npm."""
    return {name: version for name in ("bun", "ws", "socket.io") if (version := npm.version(name))}


def _measured_when(report: Report) -> str:
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"Measured {report.date} on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']},"
        f" Python {machine['python']}; {packages}."
    )


def _measured_how(report: Report) -> str:
    lanes = report.plan.lanes
    return (
        f"{lanes.connections:,} connections opened, then {lanes.cost_connections:,} kept; {lanes.rounds} rounds,"
        " medians. In brackets: the gateway's figure over that server's. **Bold: the gateway loses.** ≥, ~: the"
        " clients' core was busy, it may be the limit."
    )


def _marked(column: Column, figure: Figure, lost: str) -> str:
    return (lost if figure.lost else "{}").format(_cell(column, figure))


def _cell(column: Column, figure: Figure) -> str:
    if figure.value is None:
        return "–"
    mark = ("≥ " if column.more_is_better else "~ ") if figure.bound else ""
    ratio = "" if figure.ratio is None else f" ({figure.ratio:.2f})"
    return f"{mark}{figure.value:,.{column.digits}f}{column.unit}{ratio}"


def _markdown_table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [columns, ["---"] * len(columns), *lines]
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def _print_table(console: Console, title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for cells in lines:
        table.add_row(*cells)
    console.print(table)
