"""Rows, ratios and targets come from what was measured, and say so when something was not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.bench.plan import QUICK, Plan
from loadtest.bench.report import Report
from loadtest.bench.results import (
    CostSample,
    GatewayScenarios,
    Interference,
    LatencySample,
    Measured,
    Storm,
    Target,
    ratios_of,
    rows_of,
    targets_of,
)

ROW_KEYS = [
    "server",
    "encoding",
    "messages_per_pass",
    "connections",
    "handshakes_per_s",
    "rss_kib_per_connection",
    "user_us_per_delivery",
    "cpu_us_per_delivery",
    "p50_ms",
    "p99_ms",
]


def measured(server: str, at_1: list[float], at_10: list[float], rss: float = 5.0, share: float = 0.5) -> Measured:
    """A server with these total costs by round, a tenth of it user time."""
    costs = {
        messages: [CostSample(cost / 10, cost, share) for cost in costs] for messages, costs in ((1, at_1), (10, at_10))
    }
    latencies = {messages: [LatencySample(1.0, 2.0, 3.0), LatencySample(3.0, 9.0, 10.0)] for messages in (1, 10)}
    return Measured(server, 5_000, 4_000.0, share, rss, costs, latencies)


GATEWAY = measured("gateway", [12.0, 24.0, 13.0], [1.1, 2.2, 1.0])
FLOOR = measured("floor", [10.0, 20.0, 10.0], [0.8, 1.6, 0.8], rss=0.0)
UNMETERED = measured("unmetered", [11.8, 23.7, 12.9], [1.1, 2.2, 1.0])
BUN = measured("bun", [11.0, 22.0, 10.0], [1.0, 2.0, 1.0])
FASTAPI = measured("fastapi", [30.0, 60.0, 30.0], [30.0, 60.0, 30.0], rss=30.0)
STORM = Storm(clients=10_000, elapsed_s=2.5, lost=0, reasons="", client_share=0.5)
QUIET = Interference(10_000, 40, 10_000, 12.0, 30.0, 45.0, 0.6)


def by_key(targets: list[Target]) -> dict[str, Target]:
    return {target.key: target for target in targets}


def test_every_server_has_a_row_for_each_number_of_messages_a_pass() -> None:
    rows = rows_of([FLOOR, GATEWAY])
    assert [(row.server, row.messages_per_pass) for row in rows] == [
        ("floor", 1),
        ("floor", 10),
        ("gateway", 1),
        ("gateway", 10),
    ]


def test_a_row_holds_medians_and_the_user_share_of_all_rounds() -> None:
    row = rows_of([GATEWAY])[0]
    assert (row.cpu_us_per_delivery, row.user_us_per_delivery) == (13.0, 1.3)
    assert (row.p50_ms, row.p99_ms) == (2.0, 5.5)


def test_a_row_without_rounds_has_no_figures_instead_of_zeros() -> None:
    row = rows_of([Measured("floor", 10, 100.0, 0.1, 0.0)])[0]
    assert (row.cpu_us_per_delivery, row.user_us_per_delivery, row.p50_ms, row.p99_ms) == (None, None, None, None)


def test_a_ratio_is_the_median_of_ratios_within_a_round() -> None:
    ratios = ratios_of([FLOOR, GATEWAY])
    assert ratios["gateway/floor cpu per delivery, 1 a pass"] == 1.2


def test_there_are_no_ratios_to_an_absent_peer() -> None:
    assert {name.split()[0] for name in ratios_of([GATEWAY, BUN])} == {"gateway/bun"}


def test_there_are_no_ratios_without_the_gateway() -> None:
    assert ratios_of([FLOOR, BUN, FASTAPI]) == {}


def test_there_is_no_ratio_of_memory_to_the_floor() -> None:
    assert "gateway/floor rss per connection" not in ratios_of([FLOOR, GATEWAY])


def test_all_targets_pass_when_all_is_within_limits() -> None:
    lanes = [FLOOR, BUN, GATEWAY, UNMETERED, FASTAPI]
    targets = targets_of(lanes, ratios_of(lanes), GatewayScenarios([STORM], QUIET))
    assert len(targets) == 9
    assert all(target.passed for target in targets)


def test_every_target_is_there_and_not_measured_when_nothing_was() -> None:
    targets = targets_of([], {}, GatewayScenarios())
    assert len(targets) == 9
    assert {(target.measured, target.passed) for target in targets} == {(None, None)}


def test_the_targets_of_an_absent_peer_are_not_measured_and_the_others_are() -> None:
    targets = by_key(targets_of([FLOOR, GATEWAY], ratios_of([FLOOR, GATEWAY]), GatewayScenarios()))
    assert targets["cpu_floor_1"].passed is True
    assert targets["rss"].passed is True
    assert {targets[key].passed for key in ("cpu_bun_10", "cpu_fastapi_1", "cpu_fastapi_10", "storm_rate")} == {None}


@pytest.mark.parametrize(
    ("key", "gateway", "scenarios"),
    [
        ("cpu_floor_1", measured("gateway", [12.6] * 3, [1.0] * 3), GatewayScenarios()),
        ("cpu_bun_10", measured("gateway", [11.0] * 3, [3.0] * 3), GatewayScenarios()),
        ("cpu_fastapi_1", measured("gateway", [30.0] * 3, [1.0] * 3), GatewayScenarios()),
        ("metrics_cost", measured("gateway", [12.4] * 3, [1.0] * 3), GatewayScenarios()),
        ("rss", replace(GATEWAY, rss_kib_per_connection=8.1), GatewayScenarios()),
        ("storm_rate", GATEWAY, GatewayScenarios([replace(STORM, elapsed_s=4.0)])),
        ("storm_lost", GATEWAY, GatewayScenarios([STORM, replace(STORM, lost=1, reasons="1× refused")])),
        ("quiet_p99", GATEWAY, GatewayScenarios([], replace(QUIET, p99_ms=100.0))),
    ],
)
def test_a_target_beyond_its_limit_is_missed(key: str, gateway: Measured, scenarios: GatewayScenarios) -> None:
    lanes = [
        replace(FLOOR, costs={1: [CostSample(1, 10, 0.5)] * 3}),
        BUN,
        gateway,
        replace(UNMETERED, costs={1: [CostSample(1, 12, 0.5)] * 3}),
        FASTAPI,
    ]
    assert by_key(targets_of(lanes, ratios_of(lanes), scenarios))[key].passed is False


def test_a_storm_counts_only_clients_that_were_served() -> None:
    assert replace(STORM, lost=5_000).clients_per_s == 2_000.0


def test_a_busy_client_is_named_beside_the_storm() -> None:
    busy = by_key(targets_of([], {}, GatewayScenarios([replace(STORM, client_share=0.97)])))["storm_rate"]
    assert "97%" in busy.note


def test_bench_json_has_its_contract(tmp_path: Path) -> None:
    report = Report(
        Plan(), {"cpu": "x"}, [FLOOR, GATEWAY], GatewayScenarios([STORM], QUIET, [600, 400]), {"bun": "no npm"}
    )
    report.write(tmp_path / "bench.json")
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["machine"] == {"cpu": "x"}
    assert [list(row) for row in document["rows"]] == [ROW_KEYS] * 4
    assert document["ratios"]["gateway/floor cpu per delivery, 1 a pass"] == 1.2
    assert document["spread"] == [600, 400]
    assert document["absent"] == {"bun": "no npm"}
    assert {target["key"] for target in document["targets"]} == set(by_key(report.targets()))


@pytest.mark.parametrize("lanes", [[], [FLOOR], [FLOOR, BUN, GATEWAY, FASTAPI]])
def test_the_table_shows_whatever_was_measured(lanes: list[Measured]) -> None:
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        Report(QUICK, {}, lanes, GatewayScenarios(), {"bun": "no npm to install Bun with"}).show(console)
        text = console.export_text()
    assert "no npm to install Bun with" in text
    assert all(lane.server in text for lane in lanes)
    assert ("PASS" in text) == (GATEWAY in lanes)


def test_the_quick_plan_differs_only_in_amounts() -> None:
    assert asdict(QUICK).keys() == asdict(Plan()).keys()
    assert QUICK.connections < Plan().connections
