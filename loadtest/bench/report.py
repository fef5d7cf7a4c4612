"""Results → a table for people and `bench.json` for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.bench.messages import MESSAGE_BYTES
from loadtest.bench.plan import MESSAGES_PER_PASS, Plan
from loadtest.bench.results import (
    CLIENT_BOUND,
    GatewayScenarios,
    Measured,
    Target,
    ratios_of,
    rows_of,
    targets_of,
)
from loadtest.bench.stats import median


@dataclass(slots=True)
class Report:
    """Everything that a run has measured. `absent` says why a server has no row."""

    plan: Plan
    machine: dict[str, object]
    measured: Sequence[Measured]
    scenarios: GatewayScenarios
    absent: dict[str, str] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """Gateway over peers."""
        return ratios_of(self.measured)

    def targets(self) -> list[Target]:
        """Every target, measured or not."""
        return targets_of(self.measured, self.ratios(), self.scenarios)

    def as_document(self) -> dict[str, Any]:
        """The content of `bench.json`."""
        return {
            "machine": self.machine,
            "plan": asdict(self.plan),
            "rows": [asdict(row) for row in rows_of(self.measured)],
            "ratios": self.ratios(),
            "targets": [asdict(target) for target in self.targets()],
            "storms": [
                asdict(storm) | {"clients_per_s": round(storm.clients_per_s, 1)} for storm in self.scenarios.storms
            ],
            "quiet_channel": None if self.scenarios.interference is None else asdict(self.scenarios.interference),
            "spread": self.scenarios.spread,
            "client_core_share": [share for one in self.measured for share in _client_shares(one)],
            "absent": self.absent,
        }

    def write(self, path: Path) -> None:
        """Write `bench.json`."""
        path.write_bytes(orjson.dumps(self.as_document(), option=orjson.OPT_INDENT_2) + b"\n")

    def show(self, console: Console) -> None:
        """Print table, ratios and targets."""
        console.print()
        console.print(self._table())
        for line in self._notes():
            console.print(line, style="dim", highlight=False)
        if self.ratios():
            console.print(_ratio_table(self.ratios()))
        if self.scenarios.spread is not None:
            shares = " + ".join(f"{count:,}" for count in self.scenarios.spread)
            console.print(f"Connections by worker, {len(self.scenarios.spread)} workers: {shares}", highlight=False)
        console.print(_target_table(self.targets()))

    def _table(self) -> Table:
        table = _table("Side by side, medians of the rounds; RSS per connection, CPU per delivery")
        table.show_header = True
        table.add_column("server", no_wrap=True)
        for heading in (
            "a pass",
            "clients",
            "hand-\nshakes/s",
            "RSS\nKiB",
            "user\nµs",
            "total\nµs",
            "p50\nms",
            "p99\nms",
        ):
            table.add_column(heading, justify="right", no_wrap=True)
        bound = {one.server: one.handshake_client_share >= CLIENT_BOUND for one in self.measured}
        for row in rows_of(self.measured):
            first = row.messages_per_pass == MESSAGES_PER_PASS[0]
            table.add_row(
                f"[bold]{row.server}[/]" if first else "",
                str(row.messages_per_pass),
                f"{row.connections:,}" if first else "",
                f"{'≥ ' if bound[row.server] else ''}{row.handshakes_per_s:,.0f}" if first else "",
                f"{row.rss_kib_per_connection:.1f}" if first else "",
                _figure(row.user_us_per_delivery),
                _figure(row.cpu_us_per_delivery),
                _figure(row.p50_ms, 1),
                _figure(row.p99_ms, 1),
                end_section=not first,
            )
        return table

    def _notes(self) -> list[str]:
        plan = self.plan
        notes = [
            f"Messages of {MESSAGE_BYTES} bytes. Latency over all connections, at a gentle rate: {plan.rate_per_s:g}"
            " messages a second, and ten at once to an idle server.",
            "Unmetered is the gateway without latencies. Their handshake includes connect with a JWT and subscribe."
            " Both, websockets and fastapi are published to through Redis; floor and bun take lines from a socket.",
        ]
        for one in self.measured:
            if one.handshake_client_share >= CLIENT_BOUND:
                busy = f"{one.handshake_client_share:.0%}"
                notes.append(f"≥: opening connections to {one.server} kept the client's core {busy} busy.")
            for share in _client_shares(one):
                if share["share"] >= CLIENT_BOUND:
                    where = f"{one.server}, {share['messages_per_pass']} a pass"
                    notes.append(f"{where}: the client's core was {share['share']:.0%} busy, it may be the limit.")
        notes.extend(f"No row for {name}: {reason}" for name, reason in self.absent.items())
        return notes


def _client_shares(one: Measured) -> list[dict[str, Any]]:
    return [
        {"server": one.server, "messages_per_pass": messages, "share": round(share, 3)}
        for messages, costs in one.costs.items()
        if (share := median(cost.client_share for cost in costs)) is not None
    ]


def _ratio_table(ratios: dict[str, float]) -> Table:
    table = _table("Ratios (CPU: median of the ratios within a round)")
    table.add_column()
    table.add_column(justify="right")
    for name, ratio in ratios.items():
        table.add_row(name, f"{ratio:.2f}")
    return table


def _target_table(targets: Sequence[Target]) -> Table:
    table = _table("Targets")
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for target in targets:
        verdict = {True: "[green]PASS[/]", False: "[red]MISS[/]", None: "[yellow]not measured[/]"}[target.passed]
        measured = "" if target.measured is None else f"{target.measured:,.{0 if target.measured >= 1000 else 2}f}"
        table.add_row(verdict, target.text, measured, target.note)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", show_header=False, box=SIMPLE, pad_edge=False)


def _figure(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
