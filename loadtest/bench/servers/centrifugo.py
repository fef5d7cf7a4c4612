"""Centrifugo, whose client protocol the gateway speaks: built from the Go module that `centrifugo/go.mod` pins.

Clients come with a token and subscribe, as to the gateway. Messages reach it through its HTTP API, all of a pass in one
request. `GOMAXPROCS` is 1, as it has one core. The open-source edition has no batching by channel to switch on; what
its writer for each client always does, up to 16 messages a frame, is on.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import orjson

from loadtest.bench.errors import AbsentError, BenchError
from loadtest.bench.processes import Child, free_port
from loadtest.bench.servers.server import HOST, START_DEADLINE_S, Server, Surroundings

FOLDER: Final = Path(__file__).resolve().parents[1] / "centrifugo"
BINARY: Final = FOLDER / "bin" / "centrifugo"
MODULE: Final = "github.com/centrifugal/centrifugo/v6"
BUILD_DEADLINE_S: Final = 1800
CHANNELS: Final = ("bench", "quiet")

BEST: Final[dict[str, Any]] = {
    "websocket": {"use_write_buffer_pool": True, "read_buffer_size": 512},
}
BEST_ENVIRONMENT: Final = {"GOGC": "400"}
"""Fewer collections of garbage for more memory."""


def build() -> None:
    """`go build`, unless the binary is there. The first time takes minutes. Raises `AbsentError`."""
    if BINARY.is_file():
        return
    go = shutil.which("go")
    if go is None:
        raise AbsentError("no Go (go) on PATH to build it with")
    environment = os.environ | {"GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    command = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(BINARY), MODULE]
    try:
        done = subprocess.run(
            command, cwd=FOLDER, env=environment, capture_output=True, check=False, timeout=BUILD_DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        raise AbsentError(f"go build did not finish within {BUILD_DEADLINE_S} s") from None
    if done.returncode:
        raise AbsentError("go build failed: " + done.stderr.decode(errors="replace").strip()[-400:])


def start(around: Surroundings, name: str = "centrifugo", *, redis: bool = False, best: bool = False) -> Server:
    """Start it with its memory engine, or with `redis`; `best`: set for speed. Raises `AbsentError`."""
    if not BINARY.is_file():
        raise AbsentError("not built (make bench-peers builds it when Go is there)")
    port, secret, api_key = free_port(), secrets.token_hex(32), secrets.token_hex(16)
    path = around.folder / f"{name}-{port}.json"
    path.touch(0o600)
    config = _config(port, secret, api_key, around.redis_path if redis else "") | (BEST if best else {})
    path.write_bytes(orjson.dumps(config))
    environment = {"GOMAXPROCS": "1"} | (BEST_ENVIRONMENT if best else {})
    words = ["env", *(f"{key}={value}" for key, value in environment.items())]
    child = Child.start(
        f"{name}-{port}", [*words, str(BINARY), "--config", str(path)], around.cores.server, around.folder
    )
    try:
        _wait_listening(child, port)
    except BaseException:
        child.stop()
        raise
    target = {
        "host": HOST,
        "port": port,
        "path": "/connection/websocket",
        "source": "http",
        "source_path": "/api/batch",
        "api_key": api_key,
        "channels": list(CHANNELS),
        "dialect": "centrifuge",
        "secret": secret,
        "subscriptions": list(CHANNELS),
    }
    return Server(name, child, [child.process.pid], target)


def _config(port: int, secret: str, api_key: str, redis_path: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "http_server": {"address": HOST, "port": port},
        "http_api": {"key": api_key},
        "client": {"token": {"hmac_secret_key": secret}},
        "channel": {"without_namespace": {"allow_subscribe_for_client": True}},
        "log": {"level": "error"},
        "usage_stats": {"disabled": True},
    }
    if redis_path:
        config["engine"] = {"type": "redis", "redis": {"address": f"unix://{redis_path}", "prefix": f"cf{port}"}}
    return config


def _wait_listening(child: Child, port: int) -> None:
    until = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < until:
        child.check_alive()
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"Centrifugo did not listen within {START_DEADLINE_S:.0f} s{child.last_words()}")
