"""`floor`: a loop of `send()` in C, the least that this kernel takes for a delivery. See `floor.c`.

It does the WebSocket handshake, so that the same clients measure it, and nothing else of the protocol. Messages reach
it as lines on a unix socket; that costs once a message, not once a delivery.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from loadtest.bench.errors import AbsentError
from loadtest.bench.servers.server import Server, Surroundings, start_line_server

SOURCE = Path(__file__).with_name("floor.c")


def start(around: Surroundings) -> Server:
    """Compile and start it. Raises `AbsentError` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise AbsentError('no C compiler (Debian\'s "gcc")')
    binary = around.folder / "floor"
    done = subprocess.run([compiler, "-O2", "-o", str(binary), str(SOURCE)], capture_output=True, check=False)
    if done.returncode:
        raise AbsentError(f"floor.c does not compile here: {done.stderr.decode(errors='replace').strip()[:400]}")
    return start_line_server("floor", [str(binary)], around)
