"""`bun`: Bun's `server.publish()` (uWebSockets, C++), the fastest WebSocket server that is common. See `bun_server.js`.

Bun comes from npm, pinned by `loadtest/bench/package-lock.json`, and is installed beside it the first time. Messages
reach it as lines on a unix socket; all of one pass arrive in one read and are published in one tick: Bun corks them.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

from loadtest.bench.errors import AbsentError
from loadtest.bench.servers.server import Server, Surroundings, start_line_server

FOLDER = Path(__file__).resolve().parents[1]
SERVER = Path(__file__).with_name("bun_server.js")
INSTALL_DEADLINE_S = 300


def start(around: Surroundings) -> Server:
    """Start it. Raises `AbsentError` when no Bun binary is installed, or none runs on this CPU."""
    for binary in sorted(FOLDER.glob("node_modules/@oven/bun-linux-*/bin/bun")):
        if subprocess.run([binary, "--version"], capture_output=True, check=False).returncode == 0:
            return start_line_server("bun", [str(binary), str(SERVER)], around)
    raise AbsentError("no Bun binary in loadtest/bench/node_modules runs on this machine")


def install() -> None:
    """`npm ci` when Bun is not there yet. Raises `AbsentError` when that cannot work."""
    if platform.system() != "Linux" or any(FOLDER.glob("node_modules/@oven/bun-linux-*/bin/bun")):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise AbsentError("no npm to install Bun with")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, check=False, timeout=INSTALL_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise AbsentError(f"npm ci did not finish within {INSTALL_DEADLINE_S} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise AbsentError("npm ci failed: " + " · ".join(line for line in lines if "error" in line)[:400])
