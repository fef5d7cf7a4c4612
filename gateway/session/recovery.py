"""Where a subscription begins: at the newest publication, or where the client left off.

Recovery has two steps. `begin` may wait: it gets the first page of what the client has missed. `Beginning.join` does
not: in one step it takes the client into the channel at the offset that the page ends with, and gives the fields of the
reply. What has come meanwhile, and what did not fit into the page, follows as publications (`gateway.hub.catchup`). So
a reply is bounded, whatever was missed, and there is no moment between reading and joining in which a publication could
slip through.

Recovered is all or nothing: the epoch is the client's, and the log goes on right behind the client's offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import BrokerError
from gateway.hub import Channel, forms
from gateway.hub.feed import Feed
from gateway.hub.recent import LogTooShort
from gateway.metrics import names
from gateway.session.outcomes import Refusal
from protocol.codes import INTERNAL, UNRECOVERABLE_POSITION
from protocol.commands import FLAG_CHANNEL_COMPACTION, FLAG_ERROR_ON_UNRECOVERABLE, FOSSIL, SubscribeRequest
from protocol.position import Position
from protocol.replies import Publication, SubscribeResult

if TYPE_CHECKING:
    from gateway.session.session import Session
    from gateway.session.subscription import Wanted


class Beginning:
    """What a subscription begins with."""

    __slots__ = ("_epoch", "_offset", "_publications", "_recoverable", "_recovered", "_request")

    def __init__(self, request: SubscribeRequest | None, *, recoverable: bool) -> None:
        """At the newest publication, unless told otherwise."""
        self._request = request
        self._recoverable = recoverable
        self._recovered = False
        self._epoch = ""
        self._offset: int | None = None
        self._publications: list[Publication] = []

    def is_current(self, channel: Channel) -> bool:  # noqa: ARG002 - every other beginning is: `join` looks itself
        """Whether the client can still join with it."""
        return True

    def resume(self, epoch: str, offset: int, publications: list[Publication], *, recovered: bool = True) -> None:
        """Behind `offset`, with the first of what was missed; of something else, unless `recovered`."""
        self._recovered = recovered
        self._epoch = epoch
        self._offset = offset
        self._publications = publications

    def join(self, session: Session, channel: Channel, wanted: Wanted, *, server_side: bool) -> SubscribeResult:
        """Take the client into the channel. The fields of the reply, which must be queued in the same step."""
        feed, request = channel.feed, self._request
        result = SubscribeResult()
        shape = shape_of(session, channel, None if server_side else request)
        result.id = channel.number if shape & forms.NUMBERED else 0
        result.delta = bool(shape & forms.DELTA)
        positioned = wanted.override.force_positioning or wants_position(request)
        if feed is None or not (self._recoverable or positioned):
            session.join(channel, wanted, server_side=server_side, shape=shape)
            return result
        if self._recovered and feed.epoch != self._epoch:
            self._recovered, self._offset, self._publications = False, None, []
        last = self._publications[-1].offset if self._publications else self._offset
        session.join(channel, wanted, server_side=server_side, after=last, shape=shape)
        result.recoverable = self._recoverable
        result.positioned = True
        result.epoch = feed.epoch
        result.offset = feed.passed if self._offset is None else self._offset
        result.publications = self._publications
        if result.delta:
            encoding = session.outlet.encoding
            result.publications = [forms.in_full(encoding, each) for each in self._publications]
        if request is not None and request.recover:
            result.was_recovering = True
            result.recovered = self._recovered
            session.context.counters[names.RECOVERED if self._recovered else names.UNRECOVERED] += 1
        return result


def shape_of(session: Session, channel: Channel, request: SubscribeRequest | None) -> int:
    """How the client wants publications. Unknown kinds of delta are not negotiated, as unknown flags are not."""
    shape = forms.DEFAULT
    if request is not None:
        if request.flag & FLAG_CHANNEL_COMPACTION and session.reads_numbers:
            shape |= forms.NUMBERED
        if request.delta == FOSSIL and channel.namespace.delta and session.outlet.encoding.deltas:
            shape |= forms.DELTA | forms.FRESH
    return shape


def wants_position(request: SubscribeRequest | None) -> bool:
    """Whether the client asks for offsets on a channel that does not recover by itself."""
    return request is not None and (request.positioned or request.recoverable)


async def begin(channel: Channel, wanted: Wanted, request: SubscribeRequest | None) -> Beginning:
    """Find out where the client begins in an opened channel. Raises Refusal: 100 (Redis is away), 112."""
    feed, rules = channel.feed, channel.namespace
    beginning = Beginning(request, recoverable=wanted.recovers(rules))
    if feed is None or not wanted.recovers(rules):
        return beginning
    try:
        if rules.recover_mode == "cache":
            await _newest(feed, beginning, request)
        elif request is not None and request.recover:
            await _missed(feed, beginning, Position(offset=request.offset, epoch=request.epoch))
    except LogTooShort as error:
        if request is not None and request.flag & FLAG_ERROR_ON_UNRECOVERABLE:
            raise Refusal(UNRECOVERABLE_POSITION) from error
    except BrokerError as error:
        raise Refusal(INTERNAL) from error
    return beginning


async def _missed(feed: Feed, beginning: Beginning, since: Position) -> None:
    """Everything behind the client's position. Raises LogTooShort, BrokerError."""
    if since.epoch and since.epoch != feed.epoch:
        raise LogTooShort
    if since.offset > feed.top:
        # It was connected to a worker that was further than this one is: look what the log has.
        await feed.looked()
        if since.offset > feed.top or (since.epoch and since.epoch != feed.epoch):
            raise LogTooShort
    epoch = feed.epoch
    page = feed.recent.fetch(since.offset)
    beginning.resume(epoch, since.offset, page if isinstance(page, list) else await page)


async def _newest(feed: Feed, beginning: Beginning, request: SubscribeRequest | None) -> None:
    """The newest publication, unless the client has it already or there is none."""
    epoch, newest = feed.epoch, feed.passed
    has_it = request is not None and request.recover and (request.epoch, request.offset) == (epoch, newest)
    if has_it or newest == 0:
        beginning.resume(epoch, newest, [])
        return
    page = feed.recent.fetch(newest - 1)
    found = page if isinstance(page, list) else await page
    beginning.resume(epoch, newest - 1, found[-1:])
