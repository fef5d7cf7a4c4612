"""SIGTERM ends a run as Ctrl-C does: what it has started is stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

T = TypeVar("T")

INTERRUPTED: Final = 130
"""Exit code after one of them."""


async def until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Ctrl-C and SIGTERM leave through all `finally`s, once."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Meanwhile SIGTERM raises KeyboardInterrupt. In the main thread only."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
