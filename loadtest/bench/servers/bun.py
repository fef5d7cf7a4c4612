"""`bun`: Bun's `server.publish()` (uWebSockets, C++), the fastest WebSocket server that is common. See `bun_server.js`.

Messages reach it as lines on a unix socket; all of one pass arrive in one read and are published in one tick: Bun
corks them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from loadtest.bench.errors import AbsentError
from loadtest.bench.servers import npm
from loadtest.bench.servers.server import Server, Surroundings, start_line_server

SERVER = Path(__file__).with_name("bun_server.js")


def start(around: Surroundings) -> Server:
    """Start it. Raises `AbsentError` when no Bun binary is installed, or none runs on this CPU."""
    for binary in sorted(npm.FOLDER.glob("node_modules/@oven/bun-linux-*/bin/bun")):
        if subprocess.run([binary, "--version"], capture_output=True, check=False).returncode == 0:
            return start_line_server("bun", [str(binary), str(SERVER)], around)
    raise AbsentError("no Bun binary in loadtest/bench/node_modules runs on this machine")
