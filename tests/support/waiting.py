"""Waiting for a condition instead of sleeping and hoping. Shared by all tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 20.0
"""Generous: it passes only when something is broken, and the machine may be busy."""
POLL_INTERVAL_S = 0.01


async def wait_until(condition: Callable[[], T], what: str | Callable[[], str], *, timeout_s: float = DEADLINE_S) -> T:
    """Wait until `condition()` is true; its value.

    Fails the test with `what` after `timeout_s`: a function, where it names what there is by then.
    """

    async def asked() -> T:
        return condition()

    return await eventually(asked, what, timeout_s=timeout_s)


async def eventually(
    condition: Callable[[], Awaitable[T]], what: str | Callable[[], str], *, timeout_s: float = DEADLINE_S
) -> T:
    """`wait_until` for what has to be asked for: until the awaited `condition()` is true; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(POLL_INTERVAL_S)
    return value
