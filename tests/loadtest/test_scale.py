"""Very many connections: sizes, what follows from figures, and a small run with real processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from loadtest.scale.__main__ import main
from loadtest.scale.curves import COLUMNS, points, row_of
from loadtest.scale.curves import main as curves
from loadtest.scale.limits import Limit, tcp_pages
from loadtest.scale.plan import MAX_GENERATORS, PER_GENERATOR, addresses_of, plan_for
from loadtest.scale.results import Broadcast, Results, Verdict, broadcast_of
from loadtest.scale.shares import Shares, busy_s, together
from loadtest.scale.site import parse_samples
from loadtest.scale.swarm import Grown

FILES = 20_000
RUN_DEADLINE_S = 290


@pytest.mark.parametrize(("connections", "workers", "generators"), [(200, 2, 1), (100_000, 6, 6), (1_000_000, 60, 59)])
def test_a_plan_has_as_many_processes_as_files_allow(connections: int, workers: int, generators: int) -> None:
    plan = plan_for(connections, FILES)
    assert (plan.workers, plan.generators) == (workers, generators)
    assert sum(plan.shares()) == connections
    assert max(plan.shares()) < plan.max_connections < FILES


def test_with_fewer_open_files_there_are_more_processes() -> None:
    plan = plan_for(10_000, 1_512)
    assert (plan.max_connections, plan.workers, plan.generators) == (1_000, 10, 10)


@pytest.mark.parametrize(
    ("connections", "files", "workers", "words"),
    [
        (0, FILES, 0, "a connection at least"),
        (10, 512, 0, "512 open files"),
        (100_000, FILES, 5, "5 workers"),
        (PER_GENERATOR * MAX_GENERATORS + 1, FILES, 0, "more than 126 generators"),
    ],
)
def test_what_cannot_be_planned_is_said(connections: int, files: int, workers: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan_for(connections, files, workers=workers)


def test_pings_come_less_often_when_there_would_be_too_many() -> None:
    assert plan_for(100_000, FILES).ping_interval_s == 25
    assert plan_for(1_000_000, FILES).ping_interval_s == 250


def test_no_two_generators_share_a_source_address() -> None:
    addresses = [address for number in range(MAX_GENERATORS) for address in addresses_of(number)]
    assert len(set(addresses)) == len(addresses)
    assert all(0 < int(address.rsplit(".", 1)[1]) < 255 for address in addresses)


def test_what_generators_have_heard_is_put_together() -> None:
    seen = broadcast_of(5, [[[10, 2], [30, 1]], [[20, 1]]])
    assert seen == Broadcast(expected=5, received=4, p50_ms=10, p99_ms=30, last_ms=30)
    assert broadcast_of(5, [[], []]).received == 0


def test_cpu_of_several_stretches_of_time_is_put_together() -> None:
    short, long = Shares(1.0, 2, {"gateway": 2.0}, 0.0), Shares(3.0, 2, {"gateway": 1.0}, 0.4)
    both = together([short, long])
    assert (both.seconds, both.cores) == (4.0, 2)
    assert (both.by_role["gateway"], both.others) == (pytest.approx(1.25), pytest.approx(0.3))
    assert together([short]) == short


def results(**others: object) -> Results:
    """A run in which all was well, but for `others`."""
    plan = plan_for(100_000, FILES)
    good = Results(
        plan,
        grown=Grown(connections=100_000, elapsed_s=10.0),
        left=100_000,
        rss_kib=5.0,
        delivering=Shares(1.0, 2, {"gateway": 1.2, "generators": 0.6, "redis": 0.0}, 0.1),
        broadcasts=[Broadcast(100_000, 100_000, 500, 900, 1_000)],
        limits=[Limit("files", 1, 4)],
    )
    for name, value in others.items():
        setattr(good, name, value)
    return good


LATE = [Broadcast(100_000, 100_000, 500, 900, 1_501)]


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ({}, Verdict.PASSED),
        ({"broadcasts": LATE}, Verdict.FAILED),
        ({"broadcasts": [Broadcast(100_000, 99_999, 500, 900, 1_000)]}, Verdict.FAILED),
        ({"left": 99_999}, Verdict.FAILED),
        ({"rss_kib": 8.1}, Verdict.FAILED),
        ({"wrong": ["closed by the server with code 3012 (1×)"]}, Verdict.FAILED),
        ({"grown": Grown(connections=90_000, elapsed_s=9.0, gave_way="memory"), "left": 90_000}, Verdict.FAILED),
    ],
)
def test_a_run_is_judged(others: dict[str, object], verdict: Verdict) -> None:
    run = results(**others)
    assert run.verdict() is verdict
    assert bool(run.as_document()["reasons"]) is (verdict is not Verdict.PASSED)


@pytest.mark.parametrize(
    "shares",
    [
        Shares(1.0, 2, {"gateway": 1.0, "generators": 0.4, "redis": 0.0}, 0.31),
        Shares(1.0, 2, {"gateway": 0.9, "generators": 1.0, "redis": 0.0}, 0.0),
    ],
)
def test_times_are_not_judged_when_others_or_the_generators_took_the_cpu(shares: Shares) -> None:
    assert results(broadcasts=LATE, delivering=shares).verdict() is Verdict.NOT_JUDGED
    assert results(broadcasts=LATE, delivering=shares, rss_kib=9.0).verdict() is Verdict.FAILED
    assert results(delivering=shares).verdict() is Verdict.PASSED


def test_cpu_is_that_of_the_gateway_for_each_delivery() -> None:
    assert results().cpu_us_per_delivery == pytest.approx(12.0)


def test_a_larger_broadcast_may_take_longer() -> None:
    run = results(grown=Grown(connections=200_000, elapsed_s=1.0))
    assert run.broadcast_target_s == 3.0
    assert results(grown=Grown(connections=1_000, elapsed_s=1.0)).broadcast_target_s == 1.5


def test_kernel_texts_are_read() -> None:
    assert tcp_pages("sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 188\nUDP: inuse 1 mem 7\n") == 188
    assert busy_s("cpu  100 10 50 9999 999 5 15 3 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 1.8
    text = (
        'gw_c{worker="edge-1"} 3.0\ngw_c{worker="edge-2",code="1"} 4.0\ngw_c{worker="edge-2",code="2"} 1.0\ngw_cc 9\n'
    )
    assert parse_samples(text, "gw_c") == {"edge-1": 3, "edge-2": 5}


def test_there_is_a_point_for_each_size_of_each_curve() -> None:
    seen = [(curve, plan.connections, plan.channels, plan.workers) for curve, plan in points(FILES)]
    assert ("connections", 100_000, 1, 6) in seen
    assert ("channels", 10_000, 10_000, 2) in seen
    assert ("workers", 10_000, 1, 8) in seen
    assert set(row_of("workers", plan_for(10, FILES), None, "it failed")) == set(COLUMNS)
    assert row_of("workers", plan_for(100_000, FILES), replace(results(), left=0))["problem"]


@pytest.mark.timeout(RUN_DEADLINE_S)
def test_a_small_run_holds_its_clients_and_broadcasts_to_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scale.json"
    arguments = [
        "--connections",
        "200",
        "--rest",
        "0.5",
        "--broadcasts",
        "3",
        "--pause",
        "0.1",
        "--channels",
        "7",
        "--json",
        str(file),
    ]
    status = main(arguments)
    said = capsys.readouterr().out
    assert status in (Verdict.PASSED, Verdict.NOT_JUDGED), said
    found = orjson.loads(file.read_bytes())
    assert [each["received"] for each in found["broadcasts"]] == [200] * 3
    assert (found["grown"]["connections"], found["left"], sum(found["by_worker"].values())) == (200, 200, 200)
    assert found["rest"]["by_role"]["gateway"] > 0
    assert "machine" in found


@pytest.mark.timeout(RUN_DEADLINE_S)
def test_connections_can_be_held_without_a_broadcast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scale.json"
    status = main(["--connections", "20", "--rest", "0", "--broadcasts", "0", "--json", str(file)])
    assert status == Verdict.PASSED, capsys.readouterr().out
    found = orjson.loads(file.read_bytes())
    assert (found["left"], found["broadcasts"]) == (20, [])


@pytest.mark.timeout(RUN_DEADLINE_S)
def test_it_stops_growing_when_memory_runs_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--connections", "50", "--memory-reserve", "99999999", "--json", str(tmp_path / "scale.json")])
    assert status == Verdict.CANNOT_RUN
    assert "memory: " in capsys.readouterr().out


@pytest.mark.timeout(RUN_DEADLINE_S)
def test_curves_are_written_point_by_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "curves.csv"
    status = curves(["--small", "--only", "channels", "--csv", str(file)])
    assert status in (Verdict.PASSED, Verdict.NOT_JUDGED), capsys.readouterr().out
    lines = file.read_text().splitlines()
    assert [line.split(",")[1:4] for line in lines[1:]] == [["100", n, "2"] for n in ("1", "10", "100")]
