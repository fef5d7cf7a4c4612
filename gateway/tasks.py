"""Background tasks that cannot fail silently, and coroutines that need no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any


class TaskScope:
    """Holds short-lived tasks so that they are neither garbage-collected nor forgotten.

    A task that ends with an exception reports it to `on_error`, once. `aclose` cancels what still runs.
    """

    __slots__ = ("_on_error", "_tasks")

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start `coroutine` now; keep it until it ends."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def aclose(self) -> None:
        """Cancel every task and wait until all of them have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def cancellations() -> int:
    """How many cancellations this task was sent and has not taken back."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def raise_if_cancelled(before: int = 0) -> None:
    """Raise the CancelledError that this task was sent, should a library have lost it on the way.

    redis-py makes a time-out of one that comes while it reads, and `asyncio.wait_for` of Python 3.11, which it writes
    through, returns instead when what it waits for is done by then. A loop around such calls would never end.
    `before`: `cancellations` that are not meant.
    """
    if cancellations() > before:
        raise asyncio.CancelledError


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """End `future` with `error` unless it has ended. Whoever waited may be gone: asyncio does not complain then that
    nobody has asked for the exception."""
    if not future.done():
        future.set_exception(error)
        future.exception()


class Steps:
    """Runs a coroutine on the caller's stack until it has to wait, and goes on when what it waits for is done.

    For command handlers: nearly all of them finish without waiting, and a task for each would cost more than the
    command itself. The coroutine may await futures and tasks only (a task is a future: start one for anything that
    needs `asyncio.timeout` or `asyncio.current_task`).
    """

    __slots__ = ("_coroutine", "_ended", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], ended: Callable[[BaseException | None], None]) -> None:
        """`ended` is called once, when the coroutine has returned (None) or raised; not after `close`."""
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._ended = ended
        self._waits_for: asyncio.Future[Any] | None = None

    def start(self) -> bool:
        """Run until the first wait. True = it is done already."""
        self._step(None)
        return self._coroutine is None

    def close(self) -> None:
        """Stop it where it waits: its `finally` blocks run, nothing else does."""
        coroutine, self._coroutine = self._coroutine, None
        if self._waits_for is not None:
            self._waits_for.remove_done_callback(self._step)
            self._waits_for = None
        if coroutine is not None:
            coroutine.close()

    def _step(self, _done: asyncio.Future[Any] | None) -> None:
        if self._coroutine is None:
            return
        self._waits_for = None
        try:
            # `Future.__await__` yields the future and raises its exception itself when it is resumed.
            future = self._coroutine.send(None)
        except StopIteration:
            self._coroutine = None
            self._ended(None)
        except Exception as error:  # noqa: BLE001 - handed on, not swallowed
            self._coroutine = None
            self._ended(error)
        else:
            # The flag by which a future recognises that it was awaited properly (asyncio.Future.__await__).
            future._asyncio_future_blocking = False
            self._waits_for = future
            future.add_done_callback(self._step)


def all_done(futures: Sequence[asyncio.Future[None]]) -> asyncio.Future[None]:
    """Done when all of `futures` are, which never fail. Without a task, unlike `asyncio.gather`, so that `Steps` can
    wait for it."""
    if len(futures) == 1:
        return futures[0]
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(futures)

    def one(_done: asyncio.Future[None]) -> None:
        nonlocal left
        left -= 1
        if not left and not done.done():
            done.set_result(None)

    for each in futures:
        each.add_done_callback(one)
    return done
