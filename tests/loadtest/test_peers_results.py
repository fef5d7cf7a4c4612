"""What the peers' tables say follows from what was measured, the gateway's losses included."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import orjson
import pytest
from rich.console import Console

from loadtest.bench.processes import Cores
from loadtest.bench.results import CostSample, LatencySample, Measured
from loadtest.bench.stalling import Stalled
from loadtest.peers.document import BEGIN, END, written
from loadtest.peers.plan import FULL
from loadtest.peers.report import NEVER, NOT_SHORT, Report, markdown, short, show
from loadtest.peers.results import columns, kept_kib, losses, outcome, rows_of
from loadtest.peers.run import Outcome

PASSES = FULL.lanes.passes
STALLED = Stalled(
    readers=270,
    stalled=30,
    published=512,
    message_bytes=16_384,
    before_per_s=100.0,
    per_s=98.0,
    blocked=False,
    rss_before_kib=100_000,
    rss_peak_kib=130_000,
    received=30 * 512,
    still_open=30,
    reasons={},
)


def measured(server: str, factor: float, share: float = 0.5) -> Measured:
    """A server whose every cost is `factor`, times what the machine makes of it in each of three rounds."""
    rounds = (10.0, 20.0, 10.0)
    return Measured(
        server=server,
        connections=5_000,
        handshakes_per_s=1_000 / factor,
        handshake_client_share=share,
        rss_kib_per_connection=5.0 * factor,
        costs={messages: [CostSample(1.0, one * factor, share) for one in rounds] for messages in PASSES},
        latencies={1: [LatencySample(one * factor, 2 * one * factor, 3 * one * factor) for one in rounds]},
        empty_kib=51_200,
        reopened_per_s=[500 / factor, 2_000 / factor],
    )


def report(*servers: Measured) -> Report:
    stalled = {one.server: STALLED for one in servers}
    there = Outcome(Cores(frozenset({1}), frozenset({0})), servers, stalled, {"bun": "no npm to install it with"})
    machine = {"cpu": "a processor", "cores": 2, "kernel": "6.1", "python": "3.11"}
    return Report(FULL, machine, "2026-11-28", {"ws": "8.23.0"}, there)


GATEWAY, WORSE, BETTER = measured("gateway", 1.0), measured("fastapi", 3.0), measured("bun", 0.8)


def test_ratios_are_the_gateways_over_the_peers_within_the_rounds() -> None:
    gateway, fastapi = rows_of([GATEWAY, WORSE], PASSES)
    assert {figure.ratio for figure in gateway.figures.values()} == {None}
    assert fastapi.figures["clients/s"].ratio == pytest.approx(3.0)
    assert fastapi.figures["CPU per delivery, 100 a pass"].ratio == pytest.approx(1 / 3)
    assert fastapi.figures["CPU per delivery, 1 a pass"].value == pytest.approx(30.0)
    assert fastapi.figures["p99.9"].value == pytest.approx(90.0)
    assert fastapi.empty_mib == 50


def test_where_the_gateway_loses_is_said_and_only_there() -> None:
    rows = rows_of([GATEWAY, WORSE, BETTER], PASSES)
    assert [line.split(":")[0] for line in losses(rows)] == ["bun"]
    for column in columns(PASSES):
        assert column.heading in losses(rows)[0]


def test_a_difference_of_a_few_per_cent_is_no_loss() -> None:
    assert losses(rows_of([GATEWAY, measured("bun", 0.97)], PASSES)) == []


def test_neither_the_floor_nor_the_gateway_set_otherwise_is_a_rival() -> None:
    rows = rows_of([GATEWAY, measured("floor", 0.5), measured("gateway-lean", 0.5)], PASSES)
    assert losses(rows) == []
    assert rows[1].figures["RSS per connection"].value is None


def test_without_the_gateway_there_are_figures_and_no_ratios() -> None:
    (row,) = rows_of([BETTER], PASSES)
    assert all(figure.value is not None and figure.ratio is None for figure in row.figures.values())


def test_what_was_not_measured_is_no_zero() -> None:
    (row,) = rows_of([replace(BETTER, costs={}, latencies={})], PASSES)
    assert row.figures["p50"].value is None
    assert row.figures["CPU per delivery, 10 a pass"].value is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "everything queued, delivered later"),
        ({"received": 30 * 512 // 4}, "75% of their messages skipped"),
        ({"still_open": 0, "received": 1_000}, "disconnected"),
        ({"still_open": 20, "received": 20 * 512}, "10 of 30 disconnected; everything queued, delivered later"),
        ({"blocked": True}, "everything queued, delivered later; all others wait for them"),
        ({"per_s": 40.0}, "everything queued, delivered later; the others get 40% of their messages a second"),
    ],
)
def test_what_becomes_of_clients_that_do_not_read(changed: dict[str, object], said: str) -> None:
    assert outcome(replace(STALLED, **changed)) == said  # type: ignore[arg-type]


def test_memory_is_counted_for_each_client_that_does_not_read_and_never_below_nothing() -> None:
    assert kept_kib(STALLED) == 1_000
    assert kept_kib(replace(STALLED, rss_peak_kib=90_000)) == 0


def test_the_document_names_what_is_missing_and_marks_losses() -> None:
    text = markdown(report(GATEWAY, BETTER, WORSE))
    assert "* bun: no npm to install it with" in text
    assert all(f"* {name}: {reason}" in text for name, reason in NEVER.items())
    assert "2026-11-28" in text
    assert "a processor" in text
    bun = next(line for line in text.splitlines() if line.startswith("| bun"))
    fastapi = next(line for line in text.splitlines() if line.startswith("| fastapi"))
    assert bun.count("**") == 2 * len(columns(PASSES))
    assert "**" not in fastapi


def test_the_readme_has_the_servers_at_their_best_with_date_machine_and_losses() -> None:
    text = short(report(GATEWAY, BETTER, WORSE, *(measured(name, 1.0) for name in NOT_SHORT)))
    assert text.startswith("Measured 2026-11-28 on a processor, 2 cores")
    assert [line.split(" | ")[0] for line in text.splitlines()[5:]] == ["| gateway", "| bun", "| fastapi"]
    bun = next(line for line in text.splitlines() if line.startswith("| bun"))
    assert bun.count("**") == 2 * (len(columns(PASSES)) - 1)
    assert "p99.9" not in text


def test_a_busy_client_is_marked() -> None:
    cells = report(measured("bun", 1.0, share=0.95)).cells(rows_of([measured("bun", 1.0, share=0.95)], PASSES)[0])
    assert cells[2].startswith("≥ ")
    assert cells[4].startswith("~ ")


def test_the_terminal_shows_every_server_and_the_file_is_json() -> None:
    whole = report(GATEWAY, BETTER)
    console = Console(record=True, width=240, file=io.StringIO())
    show(whole, console)
    shown = console.export_text()
    assert "bun" in shown
    assert "Not measured" in shown
    document = json.loads(orjson.dumps(whole.as_document(), option=orjson.OPT_NON_STR_KEYS))
    assert document["stalled"]["bun"]["kept_kib"] == 1_000
    assert document["not_measured"]["bun"] == "no npm to install it with"


def test_only_what_is_between_the_marks_is_written() -> None:
    before = f"# Peers\n{BEGIN}\nold\n{END}\nafter\n"
    once = written(before, "new\n")
    assert once == f"# Peers\n{BEGIN}\nnew\n{END}\nafter\n"
    assert written(once, "new\n") == once


@pytest.mark.parametrize("document", ["nothing", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"])
def test_a_document_without_one_pair_of_marks_is_an_error(document: str) -> None:
    with pytest.raises(ValueError, match="marks"):
        written(document, "new")
