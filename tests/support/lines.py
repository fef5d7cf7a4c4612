"""Reading what a child process writes, line by line, without blocking it or the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import IO, TypeVar

from tests.support.waiting import DEADLINE_S

T = TypeVar("T")


class Lines:
    """Everything that came out of `pipe` so far. A thread reads it to its end and closes it."""

    def __init__(self, pipe: IO[str]) -> None:
        self.seen: list[str] = []
        self.ended = False
        self._pipe = pipe
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)
        self._thread.start()

    def wait_for(self, condition: Callable[[], T], what: str, *, timeout_s: float = DEADLINE_S) -> T:
        """Block until `condition()`, which looks at these lines, is true; its value. Fails the test with `what`."""
        with self._changed:
            met = self._changed.wait_for(lambda: condition() or self.ended, timeout_s)
            value = condition()
        if not value:
            how = f"not within {timeout_s:g} s" if not met else "not before the process ended"
            raise AssertionError(f"{how}: {what}\n" + "\n".join(self.seen[-40:]))
        return value

    def join(self) -> None:
        """Wait for the end: everybody who had the pipe has closed it."""
        self._thread.join(DEADLINE_S)
        assert self.ended, "somebody still holds the pipe"

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                with self._changed:
                    self.seen.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()
