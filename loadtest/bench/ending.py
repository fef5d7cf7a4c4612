"""Ctrl-C and SIGTERM end a run at any moment, and nothing that it has started is left.

Both raise KeyboardInterrupt between any two steps of the main thread: also after a process was started and before
anybody holds it. So processes are started `uninterrupted`, are entered in `running` in there, and `interruptible`
stops whatever is still in it at the end.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Protocol, TypeVar

import uvloop

T = TypeVar("T")

INTERRUPTED: Final = 130
"""Exit code after one of them."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """What is left of a run unless it is stopped."""

    def stop(self) -> object:
        """End it. Harmless when it has ended."""


running: Final[dict[Stoppable, None]] = {}
"""What was started and not stopped yet, oldest first."""


class _Interrupts:
    """What came meanwhile. Only the main thread handles signals."""

    def __init__(self) -> None:
        self._come = False
        self._raised = False
        self._held = 0

    def forget(self) -> None:
        """A new run begins."""
        self._come = self._raised = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """One of the signals is here."""
        self._come = True
        self._raise()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise afterwards what comes meanwhile."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._raise()

    def _raise(self) -> None:
        """The first one only: a second Ctrl-C must not interrupt the cleaning up."""
        if self._come and not self._raised and not self._held:
            self._raised = True
            raise KeyboardInterrupt


_interrupts: Final = _Interrupts()


@contextmanager
def interruptible() -> Iterator[None]:
    """Around a whole run, in the main thread: meanwhile the first SIGINT or SIGTERM raises KeyboardInterrupt, and at
    the end, however it comes, what is still `running` is stopped, the youngest first."""
    _interrupts.forget()
    before = {number: signal.signal(number, _interrupts.handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for each in reversed(tuple(running)):
            each.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Around a start: KeyboardInterrupt of `interruptible` is raised behind it. Without effect in other threads."""
    if threading.current_thread() is threading.main_thread():
        with _interrupts.held():
            yield
    else:
        yield


def run_until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """A whole run on an event loop of its own. Raises KeyboardInterrupt after one of the signals."""
    with interruptible(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(until_interrupted(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """For a run on an event loop: the first SIGINT or SIGTERM cancels `work`, which leaves through all `finally`s."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not task.cancelling():
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, interrupt)
    return await task
