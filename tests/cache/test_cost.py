"""The measurement runs, and measures what it says."""

from __future__ import annotations

import subprocess
import sys

from gateway.processes import child_environment


def test_the_cost_of_hits_is_measured_beside_a_floor() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gateway.cache.examples.cost", "2"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    rows = [line for line in run.stdout.splitlines() if line.endswith("× floor")]
    assert len(rows) == 5
    assert rows[0].endswith("1.00 × floor")
    assert "saved" in run.stdout.splitlines()[-1]
