"""Redis servers on loopback ports of their own: what Sentinels and clusters are made of here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import redis

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child, free_port
from loadtest.bench.redis_server import redis_binary

HOST: Final = "127.0.0.1"
DEADLINE_S: Final = 100.0
"""More than a Sentinel's TILT: after 2 s in which it did not run it mistrusts its clock, and does nothing for 30 s."""
POLL_S: Final = 0.02
OPTIONS: Final = ("--bind", HOST, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")


class Server:
    """One redis-server, kept in memory only. Each is ended by its own pid."""

    def __init__(self, name: str, folder: Path, *options: str, config: str = "") -> None:
        """`config`: a configuration file in place of the options, with `{port}` and `{folder}`; for Sentinels."""
        self.port = free_port()
        self.name = name
        self._folder = folder / name
        self._folder.mkdir()
        self._options = options
        self._config = config
        self._child: Child | None = None
        self._frozen = False
        self.client: Any = redis.Redis(HOST, self.port, socket_timeout=2.0, socket_connect_timeout=2.0)
        self.client.response_callbacks.pop("CLUSTER NODES", None)
        self.client.response_callbacks.pop("CLUSTER INFO", None)

    @property
    def running(self) -> bool:
        """Whether it can answer: it was started, and is not frozen."""
        return self._child is not None and not self._frozen

    def start(self) -> None:
        """Start it, empty, and wait until it answers. Raises BenchError."""
        if self._config:
            path = self._folder / "sentinel.conf"
            path.write_text(self._config.format(port=self.port, folder=self._folder))
            words = [redis_binary(), str(path), "--sentinel"]
        else:
            words = [redis_binary(), "--port", str(self.port), "--dir", str(self._folder), *OPTIONS, *self._options]
        self._child = Child.start(self.name, words, frozenset(os.sched_getaffinity(0)), self._folder)
        wait_until(self._answers, f"{self.name} answers", self._child.check_alive)

    def kill(self) -> None:
        """SIGKILL. Harmless when it does not run."""
        if self._child is not None:
            self._child.kill()
            self._child = None
            self._frozen = False

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and nothing is answered."""
        if self._child is not None:
            self._child.process.send_signal(signal.SIGSTOP)
            self._frozen = True

    def thaw(self) -> None:
        if self._child is not None:
            self._child.process.send_signal(signal.SIGCONT)
            self._frozen = False

    def bring_back(self) -> None:
        """Have it run, whether it was killed, frozen or neither."""
        if self._child is None:
            self.start()
        self.thaw()

    def close(self) -> None:
        """The end, in whatever state it is."""
        self.kill()
        self.client.close()

    def info(self, section: str) -> dict[str, Any]:
        """One section of INFO. Raises redis.RedisError."""
        found: dict[str, Any] = self.client.info(section)
        return found

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


def server_at(servers: Iterable[Server], port: int) -> Server:
    """Raises LookupError when none of them is there."""
    for server in servers:
        if server.port == port:
            return server
    raise LookupError(f"none of the servers is at port {port}")


def wait_same(master: Server, replica: Server) -> None:
    """Wait until `replica` has everything that `master` has. Raises BenchError."""

    def same() -> bool:
        offset = master.info("replication")["master_repl_offset"]
        return bool(replica.info("replication")["slave_repl_offset"] >= offset)

    wait_until(same, f"{replica.name} has everything")


def wait_until(
    condition: Callable[[], bool],
    what: str,
    check: Callable[[], None] = lambda: None,
    *,
    state: Callable[[], str] = lambda: "",
) -> None:
    """Wait, looking again and again; an error of Redis counts as no. Raises BenchError when it takes too long, with
    what `state` says."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        check()
        if time.monotonic() > until:
            raise BenchError(f"not within {DEADLINE_S:.0f} s: {what} {state()}".rstrip())
        time.sleep(POLL_S)
