"""`history` and `history_remove`: the log of a channel.

A log of any size is read and sent in pages. The position in the answer is that of the first page, and nothing newer is
sent: otherwise a channel that is published to faster than its reader reads would never end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.broker import ChannelLog, Page
from gateway.config import Config
from gateway.control.answers import ApiError
from gateway.control.fields import ChannelField, Rooms, check_position, encode
from gateway.control.methods import Method, Nothing
from gateway.control.streams import PAGE, Pieces
from protocol.codes import NOT_AVAILABLE, UNRECOVERABLE_POSITION
from protocol.position import Position
from protocol.replies import HistoryResult, Publication

ALL: Final = -1


class HistoryRequest(msgspec.Struct, kw_only=True):
    """Which part of a log."""

    channel: ChannelField = ""
    limit: Annotated[int, Meta(ge=ALL, description="Publications at most; 0 = the position only, -1 = all")] = 0
    since: Annotated[Position | None, Meta(description="Only those behind it; with reverse: before it")] = None
    reverse: Annotated[bool, Meta(description="Newest first")] = False


class HistoryRemoveRequest(msgspec.Struct, kw_only=True):
    """A channel."""

    channel: ChannelField = ""


class Histories:
    """Reads and empties logs."""

    def __init__(self, config: Config, log: ChannelLog) -> None:
        self._rooms = Rooms.of(config)
        self._log = log

    async def history(self, request: HistoryRequest) -> Pieces:
        """Raises ApiError: 102, 107, 108 without history, 112 when the log has another epoch."""
        self._check(request.channel)
        check_position("since", request.since)
        return self._pieces(request)

    async def remove(self, request: HistoryRemoveRequest) -> Nothing:
        self._check(request.channel)
        await self._log.remove(request.channel)
        return Nothing()

    def _check(self, channel: str) -> None:
        if not self._rooms.rules(channel).has_history:
            raise ApiError(NOT_AVAILABLE, "channel: has no history (history_size and history_ttl_s of its namespace)")

    async def _pieces(self, request: HistoryRequest) -> Pieces:
        top = Position()
        start = b'{"publications":['
        async for page in self._pages(request):
            top = page.top
            yield start + encode(page.publications)[1:-1]
            # Further pages are never empty.
            start = b","
        yield b'],"offset":%d,"epoch":%b}' % (top.offset, encode(top.epoch))

    async def _pages(self, request: HistoryRequest) -> AsyncIterator[Page]:
        """At least one, the first perhaps empty. All have the position of the first. Raises ApiError (112)."""
        left = request.limit
        offset, epoch = (request.since.offset, request.since.epoch) if request.since is not None else (0, "")
        top: Position | None = None
        while top is None or left:
            size = min(left, PAGE) if left != ALL else PAGE
            if request.reverse and size:
                page = await self._log.read_back(request.channel, before=offset or None, limit=size)
            else:
                page = await self._log.read(request.channel, after=offset, limit=size)
            if epoch and epoch != page.top.epoch:
                raise ApiError(UNRECOVERABLE_POSITION, "the log has begun anew")
            publications = self._until(page.publications, top)
            if top is None or publications:
                top = top or page.top
                yield Page(publications, top)
            if not publications or len(publications) < size or (publications[-1].offset == top.offset > 1):
                return
            left = left if left == ALL else left - len(publications)
            offset, epoch = publications[-1].offset, top.epoch

    @staticmethod
    def _until(publications: list[Publication], top: Position | None) -> list[Publication]:
        """Those that were there when the first page was read."""
        if top is None or not publications or publications[-1].offset <= top.offset:
            return publications
        return [publication for publication in publications if publication.offset <= top.offset]


def history_methods(config: Config, log: ChannelLog) -> tuple[Method[HistoryRequest], Method[HistoryRemoveRequest]]:
    """`history` and `history_remove`."""
    histories = Histories(config, log)
    length = config.limits.channel_length
    return (
        Method(
            "history",
            "Read the log of a channel",
            HistoryRequest,
            HistoryResult,
            histories.history,
            example='{"channel": "chat:lobby", "limit": 10, "reverse": true}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
            streams=True,
        ),
        Method(
            "history_remove",
            "Empty the log of a channel; its position stays, nobody is disconnected",
            HistoryRemoveRequest,
            Nothing,
            histories.remove,
            example='{"channel": "chat:lobby"}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
        ),
    )
