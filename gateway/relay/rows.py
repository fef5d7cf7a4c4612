"""A claimed row, what becomes of it, and the interface of a database that hands rows out. No input or output here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """One event on its way."""

    id: int
    event_id: str
    channel: str
    key: str
    """What it must stay in order with: its key, else its channel."""
    attempts: int
    """Refusals so far."""
    payload: str | None
    """JSON; None = larger than the gateway takes, and left where it is."""
    created: float
    """Seconds since 1970, by the database's clock."""


class Retry(NamedTuple):
    """A row that Redis has refused, once more."""

    id: int
    delay_s: float
    error: str


class Dead(NamedTuple):
    """A row that is given up: it stays, and is not looked at before somebody replays it."""

    id: int
    error: str


@dataclass(slots=True)
class Claim:
    """Rows that nobody else has at the same time, by `id`, and what has become of them. What is left out of the three
    lists stays as it was."""

    rows: Sequence[Row]
    published: list[int] = field(default_factory=list)
    retry: list[Retry] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)


class Bounds(NamedTuple):
    """How much one claim takes."""

    rows: int
    total_bytes: int
    """Of payloads; a single larger one is taken by itself."""
    max_bytes: int
    """A larger payload is not read."""


class Figures(NamedTuple):
    """The table at one moment."""

    waiting: int
    """Rows that are not dead, counted up to `COUNT_LIMIT`."""
    dead: int
    """The same of those that are."""
    oldest_s: float
    """Age of the oldest row that could leave now; 0 = there is none."""


class Store(Protocol):
    """A database with the table, as a relay needs it. Everything raises SqlError."""

    def claim(self) -> AbstractAsyncContextManager[Claim]:
        """Rows that are due, for this relay alone; what has become of them is in the database after the `async with`.
        An exception in it leaves everything as it was."""
        ...

    def hints(self) -> AsyncIterator[None]:
        """Something may have been inserted. Looking regularly is what finds every row; this makes it sooner."""
        ...

    async def figures(self) -> Figures:
        """How much there is."""
        ...
