"""The faults at their smaller size, with real processes: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.bench.processes import descendants
from tests.support.processes import kill_all, wait_gone
from tests.support.waiting import DEADLINE_S

COMMAND = (sys.executable, "-m", "loadtest.faults", "--small")
RUN_DEADLINE_S = 170


def left_in(folder: Path) -> list[str]:
    """Names of what a run has left behind."""
    return [path.name for path in folder.iterdir() if path.name.startswith("nexus-faults-")]


@pytest.mark.timeout(RUN_DEADLINE_S + 10)
def test_whatever_breaks_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    output = tmp_path / "faults.json"
    ran = subprocess.run(
        [*COMMAND, "--json", str(output)], capture_output=True, text=True, timeout=RUN_DEADLINE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = orjson.loads(output.read_bytes())
    assert seen["violations"] == []
    assert (seen["lost"], seen["doubled"], seen["out_of_order"], seen["disconnected_wrongly"]) == (0, 0, 0, {})
    assert seen["delivered"] > seen["recovered"] > 0
    assert len(seen["healing"]) == 8
    assert all(each["clients"] and not each["unhealed"] for each in seen["healing"])
    assert seen["told"]["not recovered"] > 0
    assert left_in(tmp_path) == []


async def test_interrupted_it_takes_everything_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    family: list[psutil.Process] = []
    run = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert run.stdout is not None
        while "publications flow" not in (line := run.stdout.readline()):
            assert line, "ended early"
        family = descendants(run.pid)
        assert len(family) >= 4
        run.send_signal(signal.SIGINT)
        run.stdout.read()
        assert run.wait(DEADLINE_S) == 130
        await wait_gone(family)
        assert left_in(tmp_path) == []
    finally:
        kill_all(run, family)
        run.stdout.close()


def test_a_gateway_that_cannot_be_started_is_said() -> None:
    ran = subprocess.run(
        [*COMMAND, "--gateway-command", "no-such-gateway"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (ran.returncode, "no-such-gateway" in ran.stdout) == (2, True)
