"""What a client has been given, checked: offsets of a channel with history, texts of token streams. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

ENDS: Final = frozenset(("finished", "failed", "cancelled", "truncated", "not_resumable"))


class OrderError(Exception):
    """Something is missing, doubled or out of order."""


class Orders:
    """One subscription with history: what comes must have the next offset, always."""

    def __init__(self) -> None:
        self.epoch = ""
        self.offset = 0
        self._wrong: list[str] = []

    def position(self) -> dict[str, Any]:
        """What a `subscribe` request says to recover; the first time nothing."""
        return {"recover": True, "epoch": self.epoch, "offset": self.offset} if self.epoch else {}

    def subscribed(self, result: Mapping[str, Any]) -> None:
        """The reply."""
        if self.epoch and not result.get("recovered"):
            self._wrong.append(f"not recovered from offset {self.offset}")
            self.offset = result.get("offset", 0)
        if not self.epoch:
            self.offset = result.get("offset", 0)
        self.epoch = result["epoch"]
        for publication in result.get("publications", ()):
            self.published(publication)

    def published(self, publication: Mapping[str, Any]) -> None:
        """A publication."""
        if publication["offset"] != self.offset + 1:
            self._wrong.append(f"offset {publication['offset']} after {self.offset}")
        self.offset = publication["offset"]

    def check(self) -> None:
        """Raise OrderError for what was wrong since the last time."""
        if self._wrong:
            wrong, self._wrong = self._wrong, []
            raise OrderError("; ".join(wrong[:3]))


class StreamText:
    """The text of one token stream as a watcher has it. Its nth token is the number n (`text_of`)."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self._text = ""
        self._wrong = ""

    def take(self, record: Mapping[str, Any]) -> None:
        """A record."""
        kind = record["type"]
        if kind == "snapshot":
            self.begun = True
            self._text = (self._text if record.get("from") else "") + record["text"]
        elif kind == "delta":
            self._text += record["text"]
        elif kind in ENDS:
            self.begun = self.ended = True
            if kind == "finished":
                self._wrong = self._wrong or wrong_text(self._text)
            else:
                self._wrong = self._wrong or f"ended as {kind}"

    def wait_for(self, condition: Callable[[], bool], timeout_s: float, sleep: Callable[[float], None]) -> None:
        """Wait. Raises OrderError when it does not come, or something was wrong."""
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise OrderError(f"not within {timeout_s:g} s")
            sleep(0.02)
        if self._wrong:
            raise OrderError(self._wrong)


def text_of(tokens: int) -> list[str]:
    """What the producer says: so many tokens."""
    return [f"{number} " for number in range(tokens)]


def wrong_text(text: str) -> str:
    """What is wrong with a finished text, or nothing. An empty one is: watchers come while it is there."""
    words = text.split()
    for number, word in enumerate(words):
        if word != str(number):
            return f"token {number} is {word!r}"
    return "" if words else "the text is empty"
