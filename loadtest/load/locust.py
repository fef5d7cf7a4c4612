"""Locust as a process of its own: started with a plan, looked at through the files that it writes, ended by its pid."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import REPOSITORY, Child
from loadtest.load.plan import VARIABLE, Plan, Site

STOP_DEADLINE_S: Final = 60.0
USERS_DEADLINE_S: Final = 120.0
FILE: Final = REPOSITORY / "loadtest" / "load" / "locustfile.py"
LOG_LINES_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of request, as Locust has written it. Times in ms."""

    name: str
    requests: int
    failures: int
    average_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(slots=True)
class Outcome:
    """What Locust said at its end."""

    exit_code: int
    rows: list[Row] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    excuse: str = ""
    generators: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """The most frequent failures."""


class Locust:
    """One run of Locust. Reports are written to `reports` + `_stats.csv`, `_failures.csv`, `.html` …"""

    def __init__(self, child: Child, reports: Path, verdict: Path) -> None:
        self._child = child
        self._reports = reports
        self._verdict = verdict

    @classmethod
    def start(cls, plan: Plan, site: Site, reports: Path) -> Locust:
        """Start it. It ends by itself after `plan.seconds`."""
        reports.parent.mkdir(parents=True, exist_ok=True)
        (reports.parent / f"{reports.name}.log").write_bytes(b"")
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(FILE),
            "--headless",
            "--only-summary",
            "--csv-full-history",
        ]
        command += ["-u", str(plan.total), "-r", str(plan.spawn_per_s), "-t", f"{plan.seconds}s", "--stop-timeout", "5"]
        command += ["--csv", str(reports), "--html", str(reports) + ".html"]
        if plan.processes > 1:
            command += ["--processes", str(plan.processes)]
        child = Child.start(
            reports.name,
            command,
            frozenset(os.sched_getaffinity(0)),
            reports.parent,
            environment={VARIABLE: site.as_variable()},
        )
        return cls(child, reports, Path(site.verdict))

    @property
    def pid(self) -> int:
        """Process id of Locust."""
        return self._child.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._child.process.poll() is not None

    def now(self) -> str:
        """How it goes: users, requests a second, failures."""
        last = self._last()
        if not last:
            return ""
        rate = float(last["Requests/s"] or 0)
        return f"{last['User Count']} users, {rate:,.0f} requests/s, {last['Total Failure Count']} failures"

    def wait_users(self, users: int) -> None:
        """Wait until so many are there. Raises BenchError when that does not come, or Locust has ended."""
        until = time.monotonic() + USERS_DEADLINE_S
        while int(self._last().get("User Count") or 0) < users:
            if self.ended or time.monotonic() > until:
                raise BenchError(f"Locust did not get to {users} users{self._child.last_words(LOG_LINES_SHOWN)}")
            time.sleep(0.2)

    def _last(self) -> dict[str, str]:
        """The last whole line of its history."""
        try:
            text = (self._reports.parent / f"{self._reports.name}_stats_history.csv").read_text()
        except OSError:
            return {}
        rows = list(csv.DictReader(text.rpartition("\n")[0].splitlines()))
        return next((row for row in reversed(rows) if row["Name"] == "Aggregated"), {})

    def finish(self) -> Outcome:
        """Ask it to come to an end before its time, and what it has found. Raises as `outcome`."""
        if not self.ended:
            self._child.process.send_signal(signal.SIGINT)
        return self.outcome()

    def outcome(self) -> Outcome:
        """What it has found. Raises BenchError when it has failed itself."""
        try:
            code = self._child.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"Locust did not end within {STOP_DEADLINE_S:.0f} s") from None
        try:
            said = orjson.loads(self._verdict.read_bytes())
            rows = read_rows((self._reports.parent / f"{self._reports.name}_stats.csv").read_text())
            failures = (self._reports.parent / f"{self._reports.name}_failures.csv").read_text()
        except OSError:
            raise BenchError(
                f"Locust has failed with exit code {code}{self._child.last_words(LOG_LINES_SHOWN)}"
            ) from None
        return Outcome(
            code, rows, said["lost"], said["late"], said["excuse"], said["generators"], read_errors(failures)
        )

    def stop(self) -> None:
        """End it and its processes."""
        self._child.stop(STOP_DEADLINE_S)


def read_rows(stats: str) -> list[Row]:
    """The rows of `…_stats.csv`, without the sum of all."""
    return [_row(each) for each in csv.DictReader(stats.splitlines()) if each["Name"] != "Aggregated"]


def read_errors(failures: str, most: int = 5) -> list[str]:
    """The most frequent rows of `…_failures.csv`, a line each."""
    rows = sorted(csv.DictReader(failures.splitlines()), key=lambda row: -int(row["Occurrences"]))
    return [f"{int(row['Occurrences']):,} × {row['Name']}: {row['Error']}" for row in rows[:most]]


def _row(each: Mapping[str, str]) -> Row:
    return Row(
        each["Name"],
        int(each["Request Count"]),
        int(each["Failure Count"]),
        float(each["Average Response Time"]),
        *(float(each[name]) if each[name] != "N/A" else 0.0 for name in ("50%", "95%", "99%")),
    )
