"""The newest publications of one channel with history, in memory while somebody recovers or catches up.

The newest page of the log is read once and then kept up to date: 10,000 clients that come back read a channel's log
once. Who is further behind reads page by page; those who are equally far behind share the reads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.clock import Clock
from protocol.replies import Publication

if TYPE_CHECKING:
    from gateway.broker import Page

PAGE: Final = 1000
"""Publications in one read of the log, and kept in memory while clients recover."""
PAGE_BYTES: Final = 262_144
"""Bytes of data in one page for a client, above which it gets the rest later."""
TAIL_BYTES: Final = 8_388_608
"""Bytes of data kept in memory while clients recover."""


class ReadsLog(Protocol):
    """What a feed needs of the broker (`gateway.broker.ChannelLog`)."""

    def read(self, channel: str, *, after: int, limit: int) -> asyncio.Future[Page]:
        """Publications after an offset, oldest first. Raises BrokerBusy; the future raises BrokerError."""
        ...

    def forked(self, channel: str, epoch: str) -> asyncio.Future[Any]:
        """The log contradicts what was delivered in `epoch`: give it another. Raises as `read`."""
        ...


class Positioned(Protocol):
    """What is needed of the feed (`gateway.hub.feed`)."""

    @property
    def epoch(self) -> str: ...
    @property
    def top(self) -> int: ...
    @property
    def passed(self) -> int: ...


class LogTooShort(Exception):
    """The log does not reach back to what was asked for."""


class Recent:
    """Gives back what has been handed to passes: up to `feed.passed`."""

    __slots__ = ("_channel", "_clock", "_feed", "_loading", "_log", "_pages", "_size", "_start", "_tail", "used_at")

    def __init__(self, channel: str, feed: Positioned, log: ReadsLog, clock: Clock) -> None:
        self._channel = channel
        self._feed = feed
        self._log = log
        self._clock = clock
        self._tail: deque[Publication] | None = None
        self._start = 0
        """The offset before the first publication in memory."""
        self._size = 0
        self._loading: asyncio.Future[None] | None = None
        self._pages: dict[int, asyncio.Future[list[Publication]]] = {}
        self.used_at = 0.0
        """When somebody has asked last, on the monotonic clock."""

    @property
    def in_memory(self) -> bool:
        return self._tail is not None

    def add(self, publication: Publication) -> None:
        """The publication at the feed's top."""
        tail = self._tail
        if tail is not None:
            tail.append(publication)
            self._size += data_bytes(publication)
            while tail and (len(tail) > PAGE or self._size > TAIL_BYTES):
                self._size -= data_bytes(tail.popleft())
                self._start += 1

    def drop(self) -> None:
        """Keep nothing in memory."""
        self._tail = None
        self._size = 0

    def fetch(self, after: int, limit: int = PAGE) -> list[Publication] | asyncio.Future[list[Publication]]:
        """What passes have had after the offset `after`, oldest first: at least one publication unless there is none.

        At most `limit`, and little more than PAGE_BYTES. From memory at once, else a future: it raises LogTooShort
        when the log does not reach back, BrokerError when Redis does not answer.
        """
        if after >= self._feed.passed:
            return []
        if self._tail is not None and after >= self._start:
            return self._from_tail(after, limit)
        if (page := self._pages.get(after)) is None:
            page = asyncio.get_running_loop().create_task(self._fetch(after, limit))
            self._pages[after] = page
            page.add_done_callback(partial(self._fetched, after))
        return page

    def _from_tail(self, after: int, limit: int) -> list[Publication]:
        tail = self._tail or deque()
        self.used_at = self._clock.monotonic()
        start = after - self._start
        return _within_bytes(islice(tail, start, min(start + limit, self._feed.passed - self._start)))

    async def _fetch(self, after: int, limit: int) -> list[Publication]:
        epoch = self._feed.epoch
        if after >= self._feed.top - PAGE:
            await self._load_tail()
            if self._feed.epoch != epoch:
                raise LogTooShort
            if self._tail is not None and after >= self._start:
                return self._from_tail(after, limit)
        page = await self._log.read(self._channel, after=after, limit=limit)
        found = page.publications
        if page.top.epoch != epoch or self._feed.epoch != epoch or not found or found[0].offset != after + 1:
            raise LogTooShort
        return _within_bytes(each for each in found if each.offset <= self._feed.passed)

    def _fetched(self, after: int, page: asyncio.Future[list[Publication]]) -> None:
        self._pages.pop(after, None)
        if not page.cancelled():
            page.exception()  # Whoever asked may be gone.

    async def _load_tail(self) -> None:
        """Read the newest page of the log, once for everybody who needs it."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._read_tail())
            self._loading.add_done_callback(self._loaded)
        await asyncio.shield(self._loading)

    def _loaded(self, loading: asyncio.Future[None]) -> None:
        self._loading = None
        if not loading.cancelled():
            loading.exception()

    async def _read_tail(self) -> None:
        epoch = self._feed.epoch
        if self._tail is None:
            self._tail, self._size, self._start = deque(), 0, self._feed.top
        tail = self._tail
        self.used_at = self._clock.monotonic()
        page = await self._log.read(self._channel, after=max(0, self._start - PAGE), limit=PAGE)
        if self._tail is not tail or self._feed.epoch != epoch or page.top.epoch != epoch:
            return
        for publication in reversed(page.publications):
            if publication.offset == self._start and self._size < TAIL_BYTES:
                tail.appendleft(publication)
                self._size += data_bytes(publication)
                self._start -= 1


def data_bytes(publication: Publication) -> int:
    """Bytes of its data."""
    return len(bytes(publication.data)) if publication.data else 0


def _within_bytes(publications: Iterable[Publication]) -> list[Publication]:
    """The first of them, up to PAGE_BYTES of data, at least one."""
    found: list[Publication] = []
    size = 0
    for publication in publications:
        if found and size > PAGE_BYTES:
            break
        found.append(publication)
        size += data_bytes(publication)
    return found
