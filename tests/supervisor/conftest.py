"""A gateway of real processes with fake workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.processes import child_environment
from loadtest.bench.processes import descendants
from tests.support.processes import kill_all
from tests.support.waiting import wait_until

UNUSED_REDIS = "redis://127.0.0.1:1"
"""Fake workers do not connect to it; it keeps the supervisor from starting an embedded one."""


class FakeGateway:
    """A supervisor in a process of its own, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes]
        self.serving: dict[str, Any] = {}
        self.sections: dict[str, Any] = {}
        """The configuration that it was started with."""

    def start(
        self, config: dict[str, Any] | None = None, *, behaviour: str = "", timing: dict[str, float] | None = None
    ) -> None:
        sections: dict[str, Any] = {
            "server": {"host": "127.0.0.1", "port": 0, "workers": 2, "drain_window_s": 0.0},
            "control": {"port": 0},
            "redis": {"url": UNUSED_REDIS},
            "limits": {"close_timeout_s": 0.1},
        }
        for name, section in (config or {}).items():
            sections[name] = sections.get(name, {}) | section
        self.sections = sections
        options = {
            "config": sections,
            "timing": {"drain_margin_s": 0.5, "control_stop_s": 0.5} | (timing or {}),
            "reload_from": str(self.folder / "reload.json"),
        }
        environment = child_environment() | {"FAKE_WORKERS": str(self.folder), "FAKE_BEHAVIOUR": behaviour}
        with self.log.open("wb") as log, (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.supervisor.fake_gateway", json.dumps(options)],
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    async def serve(
        self, config: dict[str, Any] | None = None, *, behaviour: str = "", timing: dict[str, float] | None = None
    ) -> None:
        """Start, and wait until it serves."""
        self.start(config, behaviour=behaviour, timing=timing)
        line = await wait_until(lambda: self._announced() or self.process.poll() is not None, "the gateway serves")
        assert line is not True, self.log.read_text()
        self.serving = json.loads(str(line))

    def _announced(self) -> str:
        line = (self.folder / "out").read_text()
        return line if line.endswith("\n") else ""

    def notes(self, what: str, worker: str = "*") -> list[Path]:
        """What the fake workers have noted, oldest first."""
        return sorted(self.folder.glob(f"{what}-{worker}-*"), key=lambda path: path.stat().st_mtime_ns)

    def note(self, what: str, worker: str) -> Any:
        return self.read(self.notes(what, worker)[-1])

    def read(self, note: Path) -> Any:
        return json.loads(note.read_text())

    def pid(self, worker: str) -> int:
        """Of the worker that was started last under that name."""
        return int(self.notes("started", worker)[-1].name.rpartition("-")[2])

    def children(self) -> list[psutil.Process]:
        return descendants(self.process.pid)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The supervisor's and the workers' log lines with that event."""
        return [line for line in self.logged_in_order() if line["event"] == event]

    def logged_in_order(self) -> list[dict[str, Any]]:
        whole, _, _half_written = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def reload(self, config: dict[str, Any]) -> None:
        """SIGHUP, with these sections over those of the start."""
        sections = {name: section | config.get(name, {}) for name, section in (config | self.sections).items()}
        (self.folder / "reload.json").write_text(json.dumps(sections))
        self.process.send_signal(signal.SIGHUP)

    async def exit_code(self) -> int:
        await wait_until(lambda: self.process.poll() is not None, "the supervisor ends")
        return self.process.wait()

    def kill_all(self) -> None:
        kill_all(self.process)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    gateway = FakeGateway(tmp_path)
    yield gateway
    gateway.kill_all()
