"""Names → how to start. The order is that of the table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial

from loadtest.bench.errors import AbsentError
from loadtest.bench.servers import bun, floor, gateway
from loadtest.bench.servers.server import Server, Surroundings, start_redis_server

Starter = Callable[[Surroundings], Server]

NAMES = ("floor", "bun", "gateway", "unmetered", "websockets", "fastapi")


def starter(name: str, gateway_command: str) -> Starter:
    """How to start the server `name`, one of `NAMES`."""
    starters: dict[str, Starter] = {
        "floor": floor.start,
        "bun": bun.start,
        "gateway": partial(gateway.start, command=gateway_command),
        "unmetered": partial(
            gateway.start, command=gateway_command, name=gateway.UNMETERED, config=gateway.UNMETERED_CONFIG
        ),
        "websockets": partial(_start_python, "websockets", "websockets_peer", ("websockets", "uvloop", "redis")),
        "fastapi": partial(_start_python, "fastapi", "fastapi_peer", ("fastapi", "uvicorn", "uvloop", "redis")),
    }
    return starters[name]


def _start_python(name: str, module: str, needs: tuple[str, ...], around: Surroundings) -> Server:
    missing = [need for need in needs if importlib.util.find_spec(need) is None]
    if missing:
        raise AbsentError(f"not installed: {', '.join(missing)}")
    return start_redis_server(name, [sys.executable, "-m", f"loadtest.bench.servers.{module}"], around)
