"""One channel's clients on this worker, and what Redis has to learn about them still."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from protocol.replies import ClientInfo

BATCH: Final = 500
"""Clients in one command."""
BATCH_BYTES: Final = 262_144
"""Information about clients in one command, about; more than this is split."""


class Observed(Protocol):
    """What is kept and told of a subscriber: a namespace, or its rules with what a token changes."""

    @property
    def presence(self) -> bool:
        """Whether it is in the presence of the channel."""
        ...

    @property
    def join_leave(self) -> bool:
        """Whether the others are told when it joins and leaves."""
        ...


class Roll:
    """State only; `Presence` decides. What a client waits for is in `joining`, `changed` or `leaving`."""

    __slots__ = ("changed", "entries", "joining", "leaving", "name", "sending", "slot", "tell", "waiting")

    def __init__(self, channel: str, slot: int, *, tell: bool) -> None:
        """`tell`: whether the channel is told who joins and leaves."""
        self.name = channel
        self.tell = tell
        self.slot = slot
        self.entries: dict[str, ClientInfo] = {}
        self.joining: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        """To be written without a `join`: the information is new, or Redis has lost the entry."""
        self.leaving: dict[str, ClientInfo | None] = {}
        """None = nobody was told of a join."""
        self.sending = False
        """Commands are under way."""
        self.waiting: list[asyncio.Future[None]] = []
        """Who waits until Redis has been told."""

    @property
    def key(self) -> tuple[str, bool]:
        """What a worker knows it by."""
        return (self.name, self.tell)

    @property
    def written(self) -> bool:
        """Whether there is nothing to be sent."""
        return not (self.joining or self.changed or self.leaving)

    def some(self, clients: Mapping[str, None]) -> dict[str, ClientInfo]:
        """The first of `clients`, as many as fit into one command; at least one."""
        found: dict[str, ClientInfo] = {}
        size = 0
        for client in islice(clients, BATCH):
            info = self.entries[client]
            size += len(bytes(info.conn_info or b"")) + len(bytes(info.chan_info or b""))
            if found and size > BATCH_BYTES:
                break
            found[client] = info
        return found

    def batches(self) -> Iterator[list[str]]:
        """Everyone who is here now, in batches that fit into one command."""
        clients = iter(tuple(self.entries))
        while some := list(islice(clients, BATCH)):
            yield some

    def release(self) -> None:
        """Redis has been told, or cannot be told now."""
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)
        self.waiting.clear()
