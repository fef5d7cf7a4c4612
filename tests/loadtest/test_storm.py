"""Storms: what is demanded, and a small one with real processes that leaves nothing behind."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadtest.bench.processes import descendants
from loadtest.load.locust import Outcome
from loadtest.scale.results import Verdict
from loadtest.scale.shares import Shares
from loadtest.storm.__main__ import main, storm_plan
from loadtest.storm.results import Results, Scenario, judge_broadcasts
from tests.support.processes import kill_all, wait_gone
from tests.support.waiting import DEADLINE_S, wait_until

RUN_DEADLINE_S = 290


def test_everybody_comes_at_once() -> None:
    plan = storm_plan(10_000, 20_000, 2)
    assert (plan.workers, plan.generators, plan.batch) == (2, 2, 5_000)
    assert plan.max_connections > 10_000  # the other worker takes all when one is killed


def test_what_is_lost_fails_a_storm_whoever_was_busy() -> None:
    scenario = Scenario("a", generator_cpu=1.0)
    scenario.refused([{"closed while opening": 2}, {"closed while opening": 1}])
    scenario.unexpected([{"messages missing": 3, "closed by the server with code 3001": 9}], ("closed by the server",))
    assert scenario.lost == [
        "a: 3 clients were refused, 3 of them: closed while opening",
        "a: 3 × messages missing",
    ]
    assert Results([scenario]).verdict() is Verdict.FAILED


@pytest.mark.parametrize(
    ("cpu", "others", "verdict"),
    [
        (0.5, 0.1, Verdict.FAILED),
        (0.95, 0.1, Verdict.NOT_JUDGED),
        (0.5, 0.4, Verdict.NOT_JUDGED),
    ],
)
def test_what_is_late_fails_a_storm_unless_the_generator_or_others_had_the_cpu(
    cpu: float, others: float, verdict: Verdict
) -> None:
    scenario = Scenario("a", shares=Shares(1.0, 2, {}, others), generator_cpu=cpu)
    scenario.limit("time", 2.0, 2.0, "s")
    assert Results([scenario]).verdict() is Verdict.PASSED
    scenario.limit("time", 2.1, 2.0, "s")
    assert Results([scenario]).verdict() is verdict


def test_no_deliveries_fail_a_storm() -> None:
    scenario = Scenario("a")
    judge_broadcasts(scenario, 0, [[], []])
    assert scenario.lost == ["a: nothing was delivered"]


def test_the_sample_is_judged_too() -> None:
    assert Results([], Outcome(1, lost=["recovery: 1 of 2 failed"])).verdict() is Verdict.FAILED
    assert Results([], Outcome(1, late=["API: p95"])).verdict() is Verdict.FAILED
    assert Results([], Outcome(3, late=["API: p95"], excuse="busy")).verdict() is Verdict.NOT_JUDGED


@pytest.mark.timeout(RUN_DEADLINE_S)
def test_a_small_storm_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--clients", "200", "--reports", str(tmp_path / "storm")])
    said = capsys.readouterr().out
    assert status != Verdict.CANNOT_RUN, said
    with (tmp_path / "storm.csv").open() as file:
        rows = list(csv.DictReader(file))
    reasons = [row["value"] for row in rows if row["scenario"] == "verdict"]
    assert all("allowed are" in reason or "must be below" in reason for reason in reasons) or reasons == [
        "nothing was lost or late"
    ], said  # times are those of whatever else this machine is doing
    figures = {(row["scenario"], row["figure"]): row["value"] for row in rows}
    assert figures["200 clients at once", "clients"] == "200"
    assert int(figures["a worker killed", "clients thrown out"]) > 0
    assert int(figures["broadcasts under churn", "deliveries"].replace(",", "")) > 200
    assert int(figures["rolling reload", "clients thrown out"]) >= 200
    assert (tmp_path / "storm-sample.html").exists()


@pytest.mark.timeout(RUN_DEADLINE_S)
async def test_interrupted_it_takes_everything_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "loadtest.storm", "--clients", "100", "--reports", str(tmp_path / "reports" / "s")]
    family: list[psutil.Process] = []
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        await wait_until(
            lambda: len(descendants(run.pid)) >= 7,
            "Redis, a supervisor, three workers, a generator, Locust",
            timeout_s=6 * DEADLINE_S,
        )
        family = descendants(run.pid)
        run.send_signal(signal.SIGTERM)
        assert run.wait(3 * DEADLINE_S) == Verdict.INTERRUPTED
        await wait_gone(family)
        assert set(os.listdir(tmp_path)) <= {"reports"}
    finally:
        kill_all(run, family)
        assert run.stdout is not None
        run.stdout.close()
