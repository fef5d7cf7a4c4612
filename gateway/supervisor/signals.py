"""SIGTERM and SIGINT: the first one stops the gateway politely, a second one at once. SIGHUP reloads.

A SIGHUP that comes during a reload is remembered: one more follows. One that comes because the terminal that the
gateway was started from has gone stops it, as it always does with programs in a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Iterator

from gateway.log import get_logger

STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """What came in so far. Within `installed()` only."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.reload = asyncio.Event()
        """Whoever reloads clears it first."""
        self.exit_code = 0
        """What a shell expects after the second signal: 128 plus its number."""

    @contextlib.contextmanager
    def installed(self, *, reloads: bool) -> Iterator[None]:
        """Take the signals of this process while inside, SIGHUP if it `reloads`. Only on the main thread."""
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._received, number)
        if reloads:
            loop.add_signal_handler(signal.SIGHUP, self._hung_up, sys.stderr.isatty())
        try:
            yield
        finally:
            for number in (*STOPPING, signal.SIGHUP) if reloads else STOPPING:
                loop.remove_signal_handler(number)

    def _hung_up(self, had_terminal: bool) -> None:
        if had_terminal and not os.isatty(sys.stderr.fileno()):
            self._received(signal.SIGHUP)
        else:
            get_logger().info("reload asked for", signal="SIGHUP")
            self.reload.set()

    def _received(self, number: signal.Signals) -> None:
        if not self.first.is_set():
            get_logger().info("gateway stopping", signal=number.name, again="stops at once")
            self.first.set()
        elif not self.second.is_set():
            get_logger().warning("gateway stopping at once", signal=number.name)
            self.exit_code = 128 + number
            self.second.set()


async def unless(event: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do `work`, but cancel it as soon as `event` is set. Whether it was finished; its exceptions rise."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
    if task.cancelled():
        return False
    task.result()
    return True
