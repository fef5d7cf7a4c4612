"""SIGTERM and SIGINT: the first one stops the gateway politely, a second one at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator

from gateway.log import get_logger

STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """What came in so far. Within `installed()` only."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.exit_code = 0
        """What a shell expects after the second signal: 128 plus its number."""

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signals of this process while inside. Only on the main thread."""
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._received, number)
        try:
            yield
        finally:
            for number in STOPPING:
                loop.remove_signal_handler(number)

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
