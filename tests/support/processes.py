"""Looking at processes from tests."""

from __future__ import annotations

import psutil


def is_running(pid: int) -> bool:
    """Whether `pid` is there and not a zombie that waits for its parent (here often init, which may take its time)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[int]:
    """All that `pid` has started, and what that has started."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
