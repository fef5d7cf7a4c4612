"""Methods that read (and clear) what Redis keeps of a channel: history and presence.

Large answers are read in pages and sent while they are read: no channel is ever held whole. What goes wrong before the
first page is answered with an error; later, the answer breaks off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from gateway.broker import Page
from gateway.control.answers import ApiError
from gateway.control.bus import Bus, broker_errors
from gateway.control.fields import Channels, check_position
from gateway.control.methods import Chunks, Method
from gateway.errors import BrokerError
from protocol.codes import BAD_REQUEST, NOT_AVAILABLE, UNRECOVERABLE_POSITION
from protocol.position import Position
from protocol.replies import ClientInfo, Publication

PAGE: Final = 1000
"""Publications in one read."""

_encoder: Final = msgspec.json.Encoder()


class ChannelRequest(msgspec.Struct):
    channel: str = ""


class HistoryRequest(msgspec.Struct):
    """`limit`: 0 = the position only, -1 = everything. `since`: publications after (with `reverse`: before) it."""

    channel: str = ""
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class HistoryResult(msgspec.Struct):
    """`offset` and `epoch`: the position of the channel."""

    publications: list[Publication]
    offset: int
    epoch: str


class PresenceResult(msgspec.Struct):
    """Client id → what is known about it."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(msgspec.Struct):
    num_clients: int
    num_users: int


class HistoryRemoveResult(msgspec.Struct):
    """The history is empty; the position stays."""


def reading_methods(bus: Bus, channels: Channels) -> list[Method[Any]]:
    """presence, presence_stats, history, history_remove."""

    async def presence(request: ChannelRequest) -> Chunks:
        _check_presence(channels, request.channel)
        with broker_errors():
            await bus.presence.stats(request.channel)  # what goes wrong now can still be told
        return _presence(bus, request.channel)

    async def presence_stats(request: ChannelRequest) -> PresenceStatsResult:
        _check_presence(channels, request.channel)
        with broker_errors():
            clients, users = await bus.presence.stats(request.channel)
        return PresenceStatsResult(clients, users)

    async def history(request: HistoryRequest) -> Chunks:
        _check_history(channels, request.channel)
        if request.limit < -1:
            raise ApiError(BAD_REQUEST, "limit: must be -1 or more")
        check_position("since", request.since)
        pages = _Pages(bus, request)
        with broker_errors():
            first = await pages.next()
        if request.since is not None and request.since.epoch not in ("", first.top.epoch):
            raise ApiError(UNRECOVERABLE_POSITION, f'since.epoch: the channel has the epoch "{first.top.epoch}"')
        return _history(pages, first)

    async def history_remove(request: ChannelRequest) -> HistoryRemoveResult:
        _check_history(channels, request.channel)
        with broker_errors():
            await bus.log.remove(request.channel)
        return HistoryRemoveResult()

    def method(name: str, summary: str, request: type[Any], result: type[Any], call: Any) -> Method[Any]:
        streams = result in (HistoryResult, PresenceResult)
        return Method(
            name, summary, request, result, call, channels=lambda request: (request.channel,), streams=streams
        )

    return [
        method("presence", "Who is in a channel", ChannelRequest, PresenceResult, presence),
        method("presence_stats", "How many are in a channel", ChannelRequest, PresenceStatsResult, presence_stats),
        method("history", "What was published to a channel", HistoryRequest, HistoryResult, history),
        method("history_remove", "Empty the history of a channel", ChannelRequest, HistoryRemoveResult, history_remove),
    ]


def _check_history(channels: Channels, channel: str) -> None:
    if not channels.rules(channel).has_history:
        raise ApiError(NOT_AVAILABLE, "channel: has no history in this configuration")


def _check_presence(channels: Channels, channel: str) -> None:
    if not channels.rules(channel).presence:
        raise ApiError(NOT_AVAILABLE, "channel: has no presence in this configuration")


class _Pages:
    """A walk over a log."""

    def __init__(self, bus: Bus, request: HistoryRequest) -> None:
        since = request.since.offset if request.since is not None else 0
        self._bus = bus
        self._channel = request.channel
        self._reverse = request.reverse
        self._left: float = request.limit if request.limit >= 0 else float("inf")
        self._at: int | None = since if since or not request.reverse else None
        self._end = float("inf")
        self.done = False

    async def next(self) -> Page:
        """The next publications, at most PAGE; none that came after the walk began. Raises BrokerError."""
        limit = int(min(PAGE, self._left))
        log = self._bus.log
        if self._reverse and limit:
            page = await log.read_back(self._channel, before=self._at, limit=limit)
        else:
            page = await log.read(self._channel, after=self._at or 0, limit=limit)
        self._end = min(self._end, page.top.offset)
        found = [each for each in page.publications if each.offset <= self._end]
        self._left -= len(found)
        last = found[-1].offset if found else 0
        self._at = last
        self.done = len(found) < limit or not self._left or last == (1 if self._reverse else self._end)
        return Page(found, page.top)


async def _history(pages: _Pages, first: Page) -> AsyncIterator[bytes]:
    yield b'{"publications":['
    page, separator = first, b""
    while True:
        if page.top.epoch != first.top.epoch:
            raise BrokerError("the history was lost while it was read")
        if page.publications:
            yield separator + b",".join(map(_encoder.encode, page.publications))
            separator = b","
        if pages.done:
            break
        page = await pages.next()
    yield b'],"offset":%d,"epoch":%b}' % (first.top.offset, _encoder.encode(first.top.epoch))


async def _presence(bus: Bus, channel: str) -> AsyncIterator[bytes]:
    yield b'{"presence":{'
    separator = b""
    async with aclosing(bus.presence.read(channel)) as chunks:
        async for chunk in chunks:
            if chunk:
                # The same client may come twice: both say the same, and the later one counts.
                entries = (_encoder.encode(client) + b":" + _encoder.encode(info) for client, info in chunk)
                yield separator + b",".join(entries)
                separator = b","
    yield b"}}"
