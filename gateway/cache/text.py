"""The text of one answer, in this process: it grows, it ends, and whoever wants it waits for either."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple

Status = Literal["finished", "truncated", "failed", "cancelled"]


class Ending(NamedTuple):
    """How an answer has ended."""

    status: Status
    usage: Any = None
    code: str = ""
    """`failed`: for programs. `truncated`, `cancelled`: why."""
    message: str = ""
    """`failed`: for people."""
    error: BaseException | None = None
    """What callers get instead of the answer."""


class Text:
    """Parts that were said so far, and the end."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.restarts = 0
        """Times that all was taken back, because another producer began anew."""
        self.ending: Ending | None = None
        self.generation = ""
        """Of the stream, once there is one."""
        self._changed = asyncio.Event()

    def add(self, part: str) -> None:
        if part:
            self.parts.append(part)
            self.wake()

    def restart(self) -> None:
        """Take everything back."""
        if self.parts:
            self.parts = []
            self.restarts += 1

    def end(self, ending: Ending) -> None:
        """It is over, if it was not before."""
        if self.ending is None:
            self.ending = ending
            self.wake()

    async def wait_changed(self) -> None:
        """Until something is added or it ends, from now on."""
        await self._changed.wait()

    def joined(self) -> str:
        return "".join(self.parts)

    def wake(self) -> None:
        """Have those look who wait."""
        self._changed.set()
        self._changed = asyncio.Event()
