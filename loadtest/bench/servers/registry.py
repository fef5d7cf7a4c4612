"""Names → how to start. The order is that of the table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from loadtest.bench.errors import AbsentError
from loadtest.bench.servers import bun, centrifugo, floor, gateway, npm
from loadtest.bench.servers.server import Server, Surroundings, start_redis_server

Starter = Callable[[Surroundings], Server]

NAMES = ("floor", "bun", "gateway", "unmetered", "websockets", "fastapi")
"""What `make bench` measures."""

PEERS = (
    "floor",
    "gateway",
    "gateway-lean",
    "centrifugo",
    "centrifugo-best",
    "centrifugo-redis",
    "bun",
    "ws",
    "ws-shared",
    "socket.io",
    "socket.io-lean",
    "websockets",
    "fastapi",
    "python-socketio",
)
"""What `make bench-peers` measures: each server as it comes, and at its best where that differs."""

FROM_NPM = frozenset({"bun", "ws", "ws-shared", "socket.io", "socket.io-lean"})
FROM_GO = frozenset({"centrifugo", "centrifugo-best", "centrifugo-redis"})

SOCKET_IO_TARGET: dict[str, Any] = {"dialect": "socket.io", "path": "/socket.io/?EIO=4&transport=websocket"}
LEAN = "env GATEWAY_LIMITS__HANDSHAKES_PER_S=0 GATEWAY_METRICS__LATENCY=false GATEWAY_LOG__LEVEL=warning "
"""The gateway without its pace for handshakes, which protects those who are connected, without latencies, and without a
line in the log for each connection (Centrifugo has none either)."""


def starter(name: str, gateway_command: str) -> Starter:
    """How to start the server `name`, one of `NAMES` or `PEERS`."""
    starters: dict[str, Starter] = {
        "floor": floor.start,
        "bun": bun.start,
        "gateway": partial(gateway.start, command=gateway_command),
        "unmetered": partial(
            gateway.start, command=gateway_command, name=gateway.UNMETERED, config=gateway.UNMETERED_CONFIG
        ),
        "websockets": partial(_start_python, "websockets", "websockets_peer", ("websockets", "uvloop", "redis")),
        "fastapi": partial(_start_python, "fastapi", "fastapi_peer", ("fastapi", "uvicorn", "uvloop", "redis")),
        "gateway-lean": partial(gateway.start, command=LEAN + gateway_command, name="gateway-lean"),
        "centrifugo": centrifugo.start,
        "centrifugo-best": partial(centrifugo.start, name="centrifugo-best", best=True),
        "centrifugo-redis": partial(centrifugo.start, name="centrifugo-redis", redis=True),
        "ws": partial(_start_node, "ws", "ws", "ws_server.js", "send"),
        "ws-shared": partial(_start_node, "ws-shared", "ws", "ws_server.js", "shared"),
        "socket.io": partial(
            _start_node, "socket.io", "socket.io", "socketio_server.js", "default", **SOCKET_IO_TARGET
        ),
        "socket.io-lean": partial(
            _start_node, "socket.io-lean", "socket.io", "socketio_server.js", "lean", **SOCKET_IO_TARGET
        ),
        "python-socketio": partial(
            _start_python,
            "python-socketio",
            "python_socketio_peer",
            ("socketio", "uvicorn", "uvloop", "redis"),
            **SOCKET_IO_TARGET,
        ),
    }
    return starters[name]


def _start_python(name: str, module: str, needs: tuple[str, ...], around: Surroundings, **target: Any) -> Server:
    missing = [need for need in needs if importlib.util.find_spec(need) is None]
    if missing:
        raise AbsentError(f"not installed: {', '.join(missing)}")
    return start_redis_server(name, [sys.executable, "-m", f"loadtest.bench.servers.{module}"], around, **target)


def _start_node(name: str, package: str, script: str, way: str, around: Surroundings, **target: Any) -> Server:
    return npm.start(name, package, script, around, way, **target)
