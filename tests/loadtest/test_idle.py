"""The measurement of idle clients and of storms at its smallest, with real processes, and nothing that stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadtest.bench.processes import descendants
from tests.support.processes import kill_all, wait_gone
from tests.support.waiting import DEADLINE_S, wait_until

COMMAND = (sys.executable, "-m", "loadtest.idle", "--small", "--pace", "2000")
RUN_DEADLINE_S = 120


@pytest.mark.timeout(RUN_DEADLINE_S + 10)
def test_it_measures_idle_clients_and_storms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ran = subprocess.run(COMMAND, capture_output=True, text=True, timeout=RUN_DEADLINE_S, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = re.findall(r"│ +(none|2000/s) │ +1,000 │ +0 │", ran.stdout)
    assert rows == ["none", "2000/s"], ran.stdout
    assert re.search(r"1,000 idle clients: \d+\.\d % of a core", ran.stdout), ran.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_it_takes_everything_with_it(
    how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    family: list[psutil.Process] = []
    run = subprocess.Popen([*COMMAND, "--no-storm"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        await wait_until(lambda: len(descendants(run.pid)) >= 5, "Redis, a supervisor, two workers and the clients")
        family = descendants(run.pid)
        run.send_signal(how)
        assert run.wait(DEADLINE_S) == 130
        await wait_gone(family)
        assert os.listdir(tmp_path) == []
    finally:
        kill_all(run, family)
        assert run.stdout is not None
        run.stdout.close()
