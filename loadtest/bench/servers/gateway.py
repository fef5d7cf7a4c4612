"""`gateway`: this gateway, end to end: Redis publish → socket, clients with a token of their own and one subscription.

It runs as `python -m gateway serve`, a supervisor with edge workers and a control process. Its cost is that of the edge
workers. Which processes those are is not asked but seen: they are the ones that hold the clients' connections.
"""

from __future__ import annotations

import secrets
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from loadtest.bench.errors import AbsentError, BenchError
from loadtest.bench.processes import REPOSITORY, Child, descendants, established_by_pid, free_port
from loadtest.bench.servers.server import HOST, START_DEADLINE_S, Server, Surroundings

PREFIX = "{name}:pub:"
"""The Redis publish contract: what stands before the channel's name. Each gateway has its own, as Redis is shared."""
CHANNELS = ("bench", "quiet")
"""By group: the channel that everybody subscribes to, and the one with few subscribers."""
MAX_CONNECTIONS = 15_000
DEFAULT_COMMAND = f"{shlex.quote(sys.executable)} -m gateway"

CONFIG = """\
[server]
host = "{host}"
port = {port}
workers = {workers}
[control]
host = "{host}"
port = {control_port}
[auth]
hmac_secret = "{secret}"
[redis]
url = "unix://{redis_path}"
prefix = "{name}"
[limits]
max_connections = {max_connections}
[namespaces.default]
"""


UNMETERED = "unmetered"
"""The same gateway that takes no times: what measuring costs is the ratio of both."""
UNMETERED_CONFIG = """\
[metrics]
latency = false
"""


def start(
    around: Surroundings,
    command: str = DEFAULT_COMMAND,
    workers: int = 1,
    *,
    name: str = "gateway",
    config: str = "",
    max_connections: int = MAX_CONNECTIONS,
    deadline_s: float = START_DEADLINE_S,
) -> Server:
    """Start it and wait until it is ready. Raises `AbsentError` when there is no such command.

    `config` is added to the configuration, in TOML.
    `pids` is the one edge worker; with more than one worker it is empty, as their cost is not asked for.
    """
    words = shlex.split(command)
    _check_there(words, deadline_s)
    port, control_port, secret = free_port(), free_port(), secrets.token_hex(32)
    path = around.folder / f"{name}-{port}.toml"
    path.write_text(
        CONFIG.format(
            host=HOST,
            port=port,
            workers=workers,
            control_port=control_port,
            secret=secret,
            redis_path=around.redis_path,
            name=name,
            max_connections=max_connections,
        )
        + config
    )
    path.chmod(0o600)
    child = Child.start(f"{name}-{port}", [*words, "serve", "--config", str(path)], around.cores.server, around.folder)
    try:
        _wait_ready(child, port, deadline_s)
        pids = [_edge_worker(child, port)] if workers == 1 else []
    except BaseException:
        child.stop()
        raise
    target = {
        "host": HOST,
        "port": port,
        "path": "/connection/websocket",
        "source": "redis",
        "source_path": around.redis_path,
        "channels": [PREFIX.format(name=name) + channel for channel in CHANNELS],
        "dialect": "centrifuge",
        "secret": secret,
        "subscriptions": list(CHANNELS),
    }
    return Server(name, child, pids, target, control_port)


def connections_by_worker(server: Server) -> dict[int, int]:
    """How many clients each worker process holds."""
    pids = [server.child.process.pid, *(process.pid for process in descendants(server.child.process.pid))]
    return established_by_pid(pids, server.target["port"])


def check_measured(server: Server) -> None:
    """Raise `BenchError` when connections are held by another process than the one that is being measured."""
    server.child.check_alive()
    holders = set(connections_by_worker(server))
    if holders != set(server.pids):
        raise BenchError(
            f"connections are held by {sorted(holders)}, measured is {server.pids}: a worker was replaced?"
        )


def _check_there(words: list[str], deadline_s: float) -> None:
    try:
        asked = subprocess.run(
            [*words, "serve", "--help"], cwd=REPOSITORY, capture_output=True, check=False, timeout=deadline_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AbsentError(f"{shlex.join(words)} serve --help: {error}") from None
    if asked.returncode:
        lines = asked.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise AbsentError(f"{shlex.join(words)} serve --help fails: {lines[-1]}")


def _wait_ready(child: Child, port: int, deadline_s: float) -> None:
    until = time.monotonic() + deadline_s
    said = "no answer"
    while time.monotonic() < until:
        child.check_alive()
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as error:
            said = f"{error.code}: {error.read(200).decode(errors='replace')}"
        except OSError as error:
            said = str(error)
        time.sleep(0.05)
    raise BenchError(f"gateway was not ready within {deadline_s:.0f} s ({said}){child.last_words()}")


def _edge_worker(child: Child, port: int) -> int:
    """The process that accepts clients, found by giving it one."""
    until = time.monotonic() + START_DEADLINE_S
    with socket.create_connection((HOST, port), timeout=5):
        while time.monotonic() < until:
            child.check_alive()
            pids = [process.pid for process in descendants(child.process.pid)] or [child.process.pid]
            holders = list(established_by_pid(pids, port))
            if holders:
                return holders[0]
            time.sleep(0.02)
    raise BenchError("no process of the gateway took a connection")
