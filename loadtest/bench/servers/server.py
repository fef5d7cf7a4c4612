"""What the driver knows of a running server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.bench.processes import Child, Cores, descendants, free_port

HOST = "127.0.0.1"
START_DEADLINE_S = 60.0
BACKLOG = 4096
"""Connections that may wait in a listener, the same for all peers."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every server is started with: cores, a private folder for sockets and logs, the benchmark's Redis."""

    cores: Cores
    folder: Path
    redis_path: str


@dataclass(slots=True)
class Server:
    """A running server. `pids` are the processes whose CPU and memory are its cost; `target` is the `setup` command
    of the generator that loads it; `control_port` is where its metrics are, 0 = nowhere."""

    name: str
    child: Child
    pids: list[int]
    target: dict[str, Any] = field(default_factory=dict)
    control_port: int = 0

    def tree(self) -> list[int]:
        """All its processes: the one that was started, and whatever that has started."""
        pid = self.child.process.pid
        return [pid, *(process.pid for process in descendants(pid))]

    def stop(self) -> int:
        """End it. Returns its exit code."""
        return self.child.stop()


def start_line_server(name: str, command: Sequence[str], around: Surroundings, **target: Any) -> Server:
    """Start a peer that takes `PORT LINE_SOCKET`, and its messages as lines. `target`: see `Server`, if it differs."""
    port = free_port()
    path = str(around.folder / f"lines-{port}.sock")
    child = _start(name, [*command, str(port), path], around)
    return Server(name, child, [child.process.pid], _target(port, "lines", path, []) | target)


def start_redis_server(name: str, command: Sequence[str], around: Surroundings, **target: Any) -> Server:
    """Start a peer that takes `PORT REDIS_SOCKET CHANNEL` and its messages from that Redis channel. `target`: see
    `Server`, where it differs."""
    port, channel = free_port(), f"bench:{name}"
    child = _start(name, [*command, str(port), around.redis_path, channel], around)
    return Server(name, child, [child.process.pid], _target(port, "redis", around.redis_path, [channel]) | target)


def _start(name: str, command: Sequence[str], around: Surroundings) -> Child:
    child = Child.start(name, command, around.cores.server, around.folder, talks=True)
    try:
        child.wait_ready_line(START_DEADLINE_S)
    except BaseException:
        child.stop()
        raise
    return child


def _target(port: int, source: str, source_path: str, channels: list[str]) -> dict[str, Any]:
    return {
        "host": HOST,
        "port": port,
        "path": "/",
        "source": source,
        "source_path": source_path,
        "channels": channels,
        "dialect": "raw",
        "secret": "",
        "subscriptions": [],
    }
