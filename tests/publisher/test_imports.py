"""`import gateway.publisher` is for backends, which have a server and a web framework of their own choice."""

from __future__ import annotations

import json
import subprocess
import sys

from gateway.processes import child_environment

FOREIGN = {
    "fastapi",
    "starlette",
    "uvicorn",
    "websockets",
    "uvloop",
    "httpx",
    "jwt",
    "typer",
    "prometheus_client",
    "psutil",
}
ROOMS = {"hub", "session", "edge", "control", "workers", "supervisor", "cli", "auth", "metrics"}


def test_importing_it_brings_no_server_and_sets_up_no_logging() -> None:
    program = (
        "import json, logging, sys, threading\n"
        "import gateway.publisher\n"
        "structlog = sys.modules.get('structlog')\n"
        "print(json.dumps({'modules': list(sys.modules), 'handlers': len(logging.root.handlers),\n"
        "    'threads': threading.active_count(), 'structlog': bool(structlog) and structlog.is_configured()}))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], env=child_environment(), capture_output=True, check=True, timeout=50
    ).stdout
    found = json.loads(out)
    modules = set(found.pop("modules"))
    assert FOREIGN & modules == set()
    assert {f"gateway.{room}" for room in ROOMS} & modules == set()
    assert found == {"handlers": 0, "threads": 1, "structlog": False}
