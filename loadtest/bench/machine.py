"""What this was measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

from loadtest.bench.processes import Cores

PACKAGES = ("websockets", "uvloop", "redis", "hiredis", "fastapi", "uvicorn", "orjson")


def describe(cores: Cores) -> dict[str, object]:
    """Facts that change figures: CPU, cores, kernel, Python, versions of what is measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "server_cores": sorted(cores.server),
        "client_cores": sorted(cores.client),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
