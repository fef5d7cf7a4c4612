"""Faults of fleets at their smaller size, with real processes: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

COMMAND = (sys.executable, "-m", "loadtest.fleet", "--small")
RUN_DEADLINE_S = 400


@pytest.mark.timeout(RUN_DEADLINE_S + 10)
@pytest.mark.parametrize(("kind", "faults"), [("sentinel", 3), ("cluster", 4)])
def test_whichever_master_goes_nothing_is_lost(
    kind: str, faults: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    output = tmp_path / "faults.json"
    ran = subprocess.run(
        [*COMMAND, kind, "--json", str(output)], capture_output=True, text=True, timeout=RUN_DEADLINE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = orjson.loads(output.read_bytes())[kind]
    assert seen["violations"] == []
    assert (seen["lost"], seen["doubled"], seen["out_of_order"], seen["disconnected_wrongly"]) == (0, 0, 0, {})
    assert seen["delivered"] > 0
    assert len(seen["healing"]) == faults
    assert all(each["clients"] and not each["unhealed"] for each in seen["healing"])
    assert seen["possible_losses"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("nexus-fleet-")] == []
