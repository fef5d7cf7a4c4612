"""The gateway under test, as `serve` starts it: two workers, seen through their ports, their log and /proc."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jwt
import orjson

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child, free_port
from loadtest.bench.usage import rss_kib
from loadtest.faults.plan import Plan
from loadtest.faults.publisher import HISTORY_SIZE, HISTORY_TTL_S

HOST: Final = "127.0.0.1"
PATH: Final = "/connection/websocket"
WORKERS: Final = 2
READY_DEADLINE_S: Final = 30.0
TOKEN_LIFE_S: Final = 3600
DEFAULT_COMMAND: Final = f"{shlex.quote(sys.executable)} -m gateway"

NAMESPACE: Final = "faults"
"""Not the default one: the channels that the server subscribes every client to (`@all` and the user's own) are in that,
and of these a client can learn of a new epoch only by being disconnected."""

CONFIG: Final = """\
[server]
host = "{host}"
port = {port}
workers = {workers}
drain_window_s = 0.0
[control]
host = "{host}"
port = {control_port}
[auth]
hmac_secret = "{secret}"
[redis]
url = "{redis_url}"
[keepalive]
ping_interval_s = {ping_interval_s}
pong_timeout_s = {pong_timeout_s}
[delivery]
send_budget_bytes = {send_budget_bytes}
[log]
format = "json"
[namespaces.{namespace}]
history_size = {history_size}
history_ttl_s = {history_ttl_s}
recover = true
"""


class Gateway:
    """One gateway. Made by `start`."""

    def __init__(self, child: Child, port: int, control_port: int, secret: str) -> None:
        self.port = port
        self._child = child
        self._control_port = control_port
        self._secret = secret
        self._read_bytes = 0
        self._lines: list[dict[str, Any]] = []

    @classmethod
    def start(cls, command: str, plan: Plan, redis_url: str, folder: Path) -> Gateway:
        """Start it, and wait until it serves. Raises BenchError."""
        port, control_port, secret = free_port(), free_port(), secrets.token_hex(32)
        config = folder / "gateway.toml"
        config.touch(0o600)
        config.write_text(
            CONFIG.format(
                host=HOST,
                port=port,
                workers=WORKERS,
                control_port=control_port,
                secret=secret,
                redis_url=redis_url,
                ping_interval_s=plan.ping_interval_s,
                pong_timeout_s=plan.pong_timeout_s,
                send_budget_bytes=plan.send_budget_bytes,
                namespace=NAMESPACE,
                history_size=HISTORY_SIZE,
                history_ttl_s=HISTORY_TTL_S,
            )
        )
        words = [*shlex.split(command), "serve", "--config", str(config)]
        child = Child.start("gateway", words, frozenset(os.sched_getaffinity(0)), folder)
        gateway = cls(child, port, control_port, secret)
        try:
            gateway._wait_serving()
        except BaseException:
            child.stop()
            raise
        return gateway

    def stop(self) -> int:
        """SIGTERM. Returns the exit code."""
        return self._child.stop()

    def check_alive(self) -> None:
        """Raise BenchError when it has ended."""
        self._child.check_alive()

    def token(self, user: str) -> str:
        """For `connect`."""
        claims = {"sub": user, "exp": int(time.time()) + TOKEN_LIFE_S}
        return jwt.encode(claims, self._secret, algorithm="HS256")

    # Its log.

    def logged(self, event: str) -> Iterator[dict[str, Any]]:
        """Lines with that event, oldest first."""
        self._read_log()
        return (line for line in self._lines if line.get("event") == event)

    def worker_of(self) -> dict[str, str]:
        """Client id → worker, of everybody who has ever connected."""
        return {line["client"]: line["process"] for line in self.logged("connection opened")}

    def ends(self) -> dict[str, tuple[int, str]]:
        """Client id → close code and reason, of every connection that a worker has seen end."""
        return {line["client"]: (line["code"], line["reason"]) for line in self.logged("connection closed")}

    def complaints(self) -> list[dict[str, Any]]:
        """Lines of level `error`, and what is no log line at all."""
        self._read_log()
        return [line for line in self._lines if line.get("level") == "error"]

    # Its processes.

    def pids(self) -> dict[str, int]:
        """Edge worker → process id, of those that were started last."""
        started = {line["worker"]: line["pid"] for line in self.logged("worker started")}
        return {name: pid for name, pid in started.items() if name.startswith("edge")}

    def kill(self, worker: str) -> None:
        """SIGKILL to one worker."""
        os.kill(self.pids()[worker], signal.SIGKILL)

    def reload(self) -> None:
        """SIGHUP to the supervisor: it rolls all workers."""
        self._child.process.send_signal(signal.SIGHUP)

    def rss_bytes(self) -> dict[str, int]:
        """Worker → resident memory, of those that run."""
        found = {}
        for worker, pid in self.pids().items():
            try:
                found[worker] = rss_kib([pid]) * 1024
            except FileNotFoundError:
                continue
        return found

    def counted(self, metric: str) -> int:
        """Sum of a counter over the workers, whatever its labels. Raises BenchError when there is no such counter.

        Blocks for the answer, some milliseconds.
        """
        return int(sum(value for _, value in self._samples(f"{metric}_total")))

    def gauges(self, metric: str) -> dict[str, int]:
        """Worker → a gauge without further labels. Raises BenchError, blocks, as `counted`."""
        return {line.partition('worker="')[2].partition('"')[0]: int(value) for line, value in self._samples(metric)}

    def gauge(self, metric: str) -> int:
        """Sum of a gauge over the workers. Raises BenchError, blocks, as `counted`."""
        return sum(self.gauges(metric).values())

    def _samples(self, name: str) -> list[tuple[str, float]]:
        """Lines of the exposition with that name, and their values."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{HOST}:{self._control_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = [(line, float(line.rsplit(" ", 1)[1])) for line in lines if line.partition("{")[0] == name]
        if not found:
            raise BenchError(f"the gateway does not show {name}")
        return found

    def _wait_serving(self) -> None:
        until = time.monotonic() + READY_DEADLINE_S
        while not any(self.logged("serving")):
            self._child.check_alive()
            if time.monotonic() > until:
                raise BenchError(f"the gateway does not serve after {READY_DEADLINE_S:.0f} s{self._child.last_words()}")
            time.sleep(0.05)

    def _read_log(self) -> None:
        with self._child.log.open("rb") as log:
            log.seek(self._read_bytes)
            text = log.read()
        whole = text.rpartition(b"\n")[0]
        if not whole:
            return
        self._read_bytes += len(whole) + 1
        for line in whole.split(b"\n"):
            try:
                entry = orjson.loads(line)
            except ValueError:
                entry = {"event": line.decode(errors="replace"), "level": "error"}
            self._lines.append(entry)
