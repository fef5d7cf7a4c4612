"""The measurement of idle clients and of storms at its smallest, with real processes, and nothing that stays behind."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import DEADLINE_S, POLL_INTERVAL_S

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
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_takes_everything_with_it(
    how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    family: list[psutil.Process] = []
    run = subprocess.Popen([*COMMAND, "--no-storm"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + DEADLINE_S
        while len(family := psutil.Process(run.pid).children(recursive=True)) < 5:
            assert time.monotonic() < until, "Redis, a supervisor, two workers and the clients"
            time.sleep(POLL_INTERVAL_S)
        run.send_signal(how)
        assert run.wait(DEADLINE_S) == 130
        until = time.monotonic() + DEADLINE_S
        while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family):
            assert time.monotonic() < until, "a process is left"
            time.sleep(POLL_INTERVAL_S)
        assert list(tmp_path.iterdir()) == []
    finally:
        for process in (*family, run):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.wait()
        assert run.stdout is not None
        run.stdout.close()
