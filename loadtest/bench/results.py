"""Measurements → rows, ratios and targets. Pure: nothing here measures, and what was not measured stays absent.

A row's figures are medians over the rounds; its user CPU is the row's total CPU times the user share of all rounds
together, because the kernel only samples that share. A ratio is the median over the rounds of the ratio within one
round: both servers were measured seconds apart in it, so a slower minute of the machine cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.bench.plan import MESSAGES_PER_PASS
from loadtest.bench.stats import median

CLIENT_BOUND = 0.9
"""Share of its core from which on the generator, not the server, may be what was measured."""


@dataclass(frozen=True, slots=True)
class CostSample:
    """CPU of one server in one round, in µs per delivery, and the generator's CPU time per second meanwhile."""

    user_us: float
    cpu_us: float
    client_share: float


@dataclass(frozen=True, slots=True)
class LatencySample:
    """Publish → receive of one server in one round, in ms."""

    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass(slots=True)
class Measured:
    """Everything about one server. Samples are by messages a pass, one a round; `reopened_per_s` has one a round, too.
    `empty_kib` is its memory without connections."""

    server: str
    connections: int
    handshakes_per_s: float
    handshake_client_share: float
    rss_kib_per_connection: float
    costs: dict[int, list[CostSample]] = field(default_factory=dict)
    latencies: dict[int, list[LatencySample]] = field(default_factory=dict)
    empty_kib: int = 0
    reopened_per_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table and of `bench.json`. The keys are a contract."""

    server: str
    encoding: str
    messages_per_pass: int
    connections: int
    handshakes_per_s: float
    rss_kib_per_connection: float
    user_us_per_delivery: float | None
    cpu_us_per_delivery: float | None
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Storm:
    """Clients that came at once: how many, in how many seconds, and how many were not served, with the reasons."""

    clients: int
    elapsed_s: float
    lost: int
    reasons: str
    client_share: float

    @property
    def clients_per_s(self) -> float:
        """Clients served per second."""
        return (self.clients - self.lost) / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Interference:
    """A quiet channel's latency (ms) while `wide_passes` messages went to `wide_connections` subscribers."""

    wide_connections: int
    wide_passes: int
    samples: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    client_share: float


@dataclass(slots=True)
class GatewayScenarios:
    """What only the gateway is asked; None = not measured. `spread` is connections by worker, largest first."""

    storms: list[Storm] = field(default_factory=list)
    interference: Interference | None = None
    spread: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A promise, and what was measured of it. `passed` is None when it was not measured."""

    key: str
    text: str
    limit: float
    measured: float | None
    passed: bool | None
    note: str = ""


def rows_of(measured: Sequence[Measured]) -> list[Row]:
    """One row for each server and number of messages a pass."""
    return [_row(one, messages) for one in measured for messages in MESSAGES_PER_PASS]


def _row(one: Measured, messages: int) -> Row:
    costs, latencies = one.costs.get(messages, []), one.latencies.get(messages, [])
    cpu_us, total_us = median(cost.cpu_us for cost in costs), sum(cost.cpu_us for cost in costs)
    user_share = sum(cost.user_us for cost in costs) / total_us if total_us else 0.0
    return Row(
        server=one.server,
        encoding="json",
        messages_per_pass=messages,
        connections=one.connections,
        handshakes_per_s=round(one.handshakes_per_s, 1),
        rss_kib_per_connection=round(one.rss_kib_per_connection, 2),
        user_us_per_delivery=None if cpu_us is None else round(cpu_us * user_share, 3),
        cpu_us_per_delivery=_rounded(cpu_us),
        p50_ms=_rounded(median(latency.p50_ms for latency in latencies)),
        p99_ms=_rounded(median(latency.p99_ms for latency in latencies)),
    )


def ratios_of(measured: Sequence[Measured]) -> dict[str, float]:
    """Gateway over each peer: CPU per delivery by messages a pass, memory, handshakes. Keys only for what is there."""
    by_name = {one.server: one for one in measured}
    gateway = by_name.get("gateway")
    ratios: dict[str, float] = {}
    if gateway is None:
        return ratios
    for name, peer in by_name.items():
        if name == "gateway":
            continue
        for messages in MESSAGES_PER_PASS:
            within = median(
                ours.cpu_us / theirs.cpu_us
                for ours, theirs in zip(gateway.costs.get(messages, []), peer.costs.get(messages, []), strict=False)
            )
            if within is not None:
                ratios[f"gateway/{name} cpu per delivery, {messages} a pass"] = round(within, 3)
        if name != "floor" and peer.rss_kib_per_connection > 0:
            memory = gateway.rss_kib_per_connection / peer.rss_kib_per_connection
            ratios[f"gateway/{name} rss per connection"] = round(memory, 3)
        ratios[f"gateway/{name} handshakes per second"] = round(gateway.handshakes_per_s / peer.handshakes_per_s, 3)
    return ratios


def targets_of(measured: Sequence[Measured], ratios: dict[str, float], scenarios: GatewayScenarios) -> list[Target]:
    """Every target, measured or not."""
    gateway = next((one for one in measured if one.server == "gateway"), None)
    targets = [
        _at_most(key, f"CPU/delivery, {messages} a pass ≤ {limit} × {peer}", limit,
                 ratios.get(f"gateway/{peer} cpu per delivery, {messages} a pass"), "×")
        for key, peer, messages, limit in (
            ("cpu_floor_1", "floor", 1, 1.25),
            ("cpu_bun_10", "bun", 10, 1.2),
            ("cpu_fastapi_1", "fastapi", 1, 0.45),
            ("cpu_fastapi_10", "fastapi", 10, 0.45),
        )
    ]  # fmt: skip
    targets.append(
        _at_most("metrics_cost", "CPU/delivery with latencies ≤ 1.03 × without", 1.03,
                 ratios.get("gateway/unmetered cpu per delivery, 1 a pass"), "×")
    )  # fmt: skip
    rss = None if gateway is None else gateway.rss_kib_per_connection
    note = "" if gateway is None else f"KiB, {gateway.connections:,} connections"
    targets.append(_at_most("rss", "RSS per authenticated, subscribed client ≤ 8 KiB", 8.0, rss, note))
    targets.extend(_storm_targets(scenarios.storms))
    quiet = scenarios.interference
    text = "p99 of another channel beside a wide publish < 100 ms"
    if quiet is None:
        targets.append(_at_most("quiet_p99", text, 100.0, None))
    else:
        note = f"ms, {quiet.wide_passes} publishes to {quiet.wide_connections:,}, {quiet.samples:,} samples"
        bound = _bound(quiet.client_share)
        passed = quiet.p99_ms < 100.0
        targets.append(Target("quiet_p99", text, 100.0, round(quiet.p99_ms, 2), passed, note + bound))
    return targets


def _storm_targets(storms: Sequence[Storm]) -> list[Target]:
    rate, lost = "Storm ≥ 3,000 clients/s per worker", "Storm: none refused or lost"
    per_s = median(storm.clients_per_s for storm in storms)
    if per_s is None:
        return [Target("storm_rate", rate, 3000.0, None, None), Target("storm_lost", lost, 0.0, None, None)]
    note = f"clients/s, {storms[0].clients:,} clients, {len(storms)} storm(s), one worker"
    missing = sum(storm.lost for storm in storms)
    reasons = "; ".join(storm.reasons for storm in storms if storm.reasons)
    return [
        Target("storm_rate", rate, 3000.0, round(per_s, 0), per_s >= 3000.0,
               note + _bound(max(storm.client_share for storm in storms))),
        Target("storm_lost", lost, 0.0, float(missing), missing == 0, reasons or "clients"),
    ]  # fmt: skip


def _at_most(key: str, text: str, limit: float, measured: float | None, note: str = "") -> Target:
    if measured is None:
        return Target(key, text, limit, None, None)
    return Target(key, text, limit, round(measured, 3), measured <= limit, note)


def _bound(client_share: float) -> str:
    return f" · the client was at {client_share:.0%} of its core" if client_share >= CLIENT_BOUND else ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
