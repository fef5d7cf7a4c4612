"""Peers that come from npm: Bun, `ws` and Socket.IO. Pinned by `loadtest/bench/package-lock.json`, installed beside it.

Messages reach them as lines on a unix socket; all of one pass arrive in one read and are published in one tick.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import orjson

from loadtest.bench.errors import AbsentError
from loadtest.bench.servers.server import Server, Surroundings, start_line_server

FOLDER: Final = Path(__file__).resolve().parents[1]
INSTALL_DEADLINE_S: Final = 300


def version(package: str, folder: Path = FOLDER) -> str:
    """The installed version of a package, "" when it is not there."""
    manifest = folder / "node_modules" / package / "package.json"
    return str(orjson.loads(manifest.read_bytes())["version"]) if manifest.is_file() else ""


def missing(folder: Path = FOLDER) -> list[str]:
    """What `package.json` asks for and is not installed in that version."""
    wanted = orjson.loads((folder / "package.json").read_bytes())["dependencies"]
    return [package for package, pinned in wanted.items() if version(package, folder) != pinned]


def install() -> None:
    """`npm ci`, unless everything is there. Raises `AbsentError` when that cannot work."""
    if not missing():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise AbsentError("no npm to install it with")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, check=False, timeout=INSTALL_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise AbsentError(f"npm ci did not finish within {INSTALL_DEADLINE_S} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise AbsentError("npm ci failed: " + " · ".join(line for line in lines if "error" in line)[:400])


def start(name: str, package: str, script: str, around: Surroundings, *options: str, **target: Any) -> Server:
    """Start `script`, which is beside this file and needs `package`, with Node.js. Raises `AbsentError`."""
    node = shutil.which("node")
    if node is None:
        raise AbsentError("no Node.js (node) on PATH")
    if not version(package):
        raise AbsentError(f"not installed: {package} (npm ci in loadtest/bench)")
    path = str(Path(__file__).with_name(script))
    # The script reads PORT LINE_SOCKET from behind its options.
    return start_line_server(name, [node, path, *options], around, **target)
