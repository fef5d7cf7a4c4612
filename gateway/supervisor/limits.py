"""What the machine gives to a worker: file descriptors and cores. Called once, before any worker starts."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

from gateway.errors import StartupError
from gateway.log import get_logger

RESERVED_FILES = 256
"""Descriptors of a worker that are not client connections: its own, those to Redis, handshakes that are under way."""
UNLIMITED_FILES = 1_048_576
"""What an unlimited hard limit is taken for."""
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one; workers inherit it. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = UNLIMITED_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def connections_within(file_limit: int, wanted: int, *, warn: bool = True) -> int:
    """`limits.max_connections` as a worker with `file_limit` descriptors can keep it. Raises StartupError."""
    possible = file_limit - RESERVED_FILES
    if possible < 1:
        raise StartupError(
            f"the hard limit on open files is {file_limit} per process, the gateway needs more than {RESERVED_FILES}. "
            "Raise it: `ulimit -Hn`, systemd's LimitNOFILE=, or the container's --ulimit nofile=."
        )
    if warn and wanted > possible:
        get_logger().warning(
            "max connections lowered", configured=wanted, used=possible, file_limit=file_limit, reserve=RESERVED_FILES
        )
    return min(wanted, possible)


def usable_cores(cgroup_cpu: Path = _CGROUP_CPU) -> int:
    """Cores that this process may use: its affinity, and a container's CPU quota (cgroup v2), rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup_cpu.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))
