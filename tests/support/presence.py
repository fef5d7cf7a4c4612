"""A presence store that keeps everything in memory, notes what it is asked, and fails when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from gateway.errors import BrokerBusy, BrokerError
from protocol.redis_contract import PresenceChange
from protocol.replies import ClientInfo


class FakePresenceStore:
    """In the place of `gateway.broker.PresenceStore`."""

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, ClientInfo]] = {}
        self.told: list[tuple[str, str, str]] = []
        """Channel, `join` or `leave`, client."""
        self.asked: list[tuple[str, str, list[str]]] = []
        """Operation, channel, clients."""
        self.busy = False
        self.error: Exception | None = None
        """What every answer is; the command is not carried out."""
        self.lost_answer: BrokerError | None = None
        """What every answer is, although the command is carried out."""
        self.holding = False
        """Answers wait for `release`."""
        self._held: list[tuple[asyncio.Future[Any], Any]] = []

    def asked_for(self, operation: str) -> list[list[str]]:
        """The clients of each command of that kind."""
        return [clients for each, _, clients in self.asked if each == operation]

    def clients(self, channel: str) -> list[str]:
        return list(self.channels.get(channel, {}))

    def release(self) -> None:
        """Answer what was asked."""
        self.holding = False
        for done, answer in self._held:
            _settle(done, answer)
        self._held.clear()

    # What a store does.

    def enter(self, channel: str, entries: Mapping[str, ClientInfo], *, tell: bool) -> asyncio.Future[None]:
        return self._do("enter", channel, entries, lambda: self._enter(channel, entries, tell))

    def restore(self, channel: str, entries: Mapping[str, ClientInfo], *, tell: bool) -> asyncio.Future[None]:
        return self._do("restore", channel, entries, lambda: self._enter(channel, entries, False))

    def leave(self, channel: str, entries: Mapping[str, ClientInfo | None], *, tell: bool) -> asyncio.Future[None]:
        return self._do("leave", channel, entries, lambda: self._leave(channel, entries, tell))

    def renew(self, channel: str, clients: Iterable[str], *, tell: bool) -> asyncio.Future[list[str]]:
        known = self.channels.get(channel, {})
        missing = [client for client in clients if client not in known]
        return self._do("renew", channel, clients, lambda: missing)

    def tell(self, channel: str, change: PresenceChange) -> asyncio.Future[int]:
        event, client = "join" if change.joined else "leave", change.info.client
        return self._do("tell", channel, [client], lambda: self.told.append((channel, event, client)))

    def stats(self, channel: str) -> asyncio.Future[tuple[int, int]]:
        known = self.channels.get(channel, {})
        users = {info.user for info in known.values()}
        return self._do("stats", channel, (), lambda: (len(known), len(users)))

    async def read(self, channel: str) -> AsyncIterator[list[tuple[str, ClientInfo]]]:
        known = list(self.channels.get(channel, {}).items())
        for start in range(0, len(known), 2):
            yield await self._do("read", channel, (), lambda start=start: known[start : start + 2])

    def _enter(self, channel: str, entries: Mapping[str, ClientInfo], tell: bool) -> None:
        known = self.channels.setdefault(channel, {})
        self.told += [(channel, "join", client) for client in entries if tell and client not in known]
        known.update(entries)

    def _leave(self, channel: str, entries: Mapping[str, ClientInfo | None], tell: bool) -> None:
        known = self.channels.setdefault(channel, {})
        for client, info in entries.items():
            if (known.pop(client, None) or info) and tell:
                self.told.append((channel, "leave", client))

    def _do(self, operation: str, channel: str, clients: Iterable[str], act: Any) -> asyncio.Future[Any]:
        if self.busy:
            raise BrokerBusy(10_000)
        self.asked.append((operation, channel, list(clients)))
        answer = self.error or act()
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.holding:
            self._held.append((done, self.lost_answer or answer))
        else:
            _settle(done, self.lost_answer or answer)
        return done


def _settle(done: asyncio.Future[Any], answer: Any) -> None:
    if isinstance(answer, Exception):
        done.set_exception(answer)
        done.exception()
    else:
        done.set_result(answer)
