"""A redis-server that a test can take away and bring back, on a unix socket of its own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from gateway.storage.binary import find_server
from gateway.storage.embedded import server_options
from gateway.storage.folder import SOCKET_NAME
from tests.support.waiting import DEADLINE_S, POLL_INTERVAL_S


class RedisServer:
    """Always on the same socket, started or not."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder / SOCKET_NAME}"
        self._folder = folder
        self._binary = find_server().path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen([self._binary, *server_options(self._folder)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_S
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(POLL_INTERVAL_S)

    def kill(self) -> None:
        """SIGKILL. Harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)
            self._process = None

    def freeze(self) -> None:
        """Let it fall silent, with every connection still open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server that runs; gone at the end, in whatever state it is then."""
    folder = Path(tempfile.mkdtemp(prefix="gw-redis-", dir="/tmp"))  # a unix socket's path must be short
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)
