"""A Redis on a port of its own that can be killed, emptied, frozen and brought back.

Everything that it accepts is on disk before anybody hears of it (`appendfsync always`): "with its data" means all.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child, free_port
from loadtest.bench.redis_server import redis_binary

HOST: Final = "127.0.0.1"
READY_DEADLINE_S: Final = 30.0
STATUS: Final = "client_output_buffer_limit_disconnections"
"""In `INFO stats`, from Redis 7.0 on."""


class RedisServer:
    """Always on the same port, running or not."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists; its data goes to a folder in there."""
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._folder = folder
        self._data = folder / "redis-data"
        self._child: Child | None = None

    def start(self) -> None:
        """Start it with what is on disk, and wait until it has read that. Raises BenchError."""
        self._data.mkdir(exist_ok=True)
        command = [redis_binary(), "--port", str(self.port), "--bind", HOST, "--dir", str(self._data)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self._child = Child.start("redis", command, frozenset(os.sched_getaffinity(0)), self._folder)
        until = time.monotonic() + READY_DEADLINE_S
        while not self._answers():
            self._child.check_alive()
            if time.monotonic() > until:
                raise BenchError(f"redis-server did not answer within {READY_DEADLINE_S:.0f} s")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def forget(self) -> None:
        """Remove its data. It must not run."""
        shutil.rmtree(self._data)

    def freeze(self) -> None:
        """SIGSTOP: every connection stays open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """The end, in whatever state it is."""
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False
