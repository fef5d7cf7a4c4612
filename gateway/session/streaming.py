"""Token streams, for a session: where a subscription to `stream:<key>` begins, and the call `stream.cancel`.

A subscriber gets one snapshot with the reply to `subscribe`: all text so far or, when it comes back with its position,
all that it has missed; then the channel as any other. The rule that is easiest to break: the generation of the snapshot
is the channel's epoch at the moment at which the client joins, or two generations could mix (`is_current`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from gateway.broker import StreamStore
from gateway.clock import Clock
from gateway.errors import BrokerError, StreamError
from gateway.hub import Channel
from gateway.hub.feed import Feed
from gateway.hub.recent import LogTooShort
from gateway.session.outcomes import Refusal
from gateway.session.recovery import Beginning
from gateway.streams.options import check_key
from gateway.streams.records import is_generation, not_resumable
from gateway.streams.views import StreamViews, View
from protocol.codes import BAD_REQUEST, INTERNAL, NOT_RESUMABLE, PERMISSION_DENIED
from protocol.commands import RpcRequest, SubscribeRequest
from protocol.replies import Reply, RpcResult

if TYPE_CHECKING:
    from gateway.session.session import Session
    from gateway.session.subscription import Wanted

PREFIX: Final = "stream:"
"""What the channels of token streams start with."""
CANCEL: Final = "stream.cancel"
"""The call with which an owner cancels a stream."""
ATTEMPTS: Final = 4
"""Times that a stream is looked at anew because it changes meanwhile; then the client is told to try again."""


class Desk:
    """What sessions need for token streams."""

    def __init__(self, store: StreamStore, clock: Clock) -> None:
        self.store = store
        self.views = StreamViews(store, clock)


class StreamBeginning(Beginning):
    """A beginning that holds for one generation."""

    __slots__ = ("_generation",)

    def __init__(self, request: SubscribeRequest | None, *, generation: str) -> None:
        """`generation` = "": for any, because there is no text."""
        super().__init__(request, recoverable=True)
        self._generation = generation

    def is_current(self, channel: Channel) -> bool:
        """Whether the client can still join with it."""
        return not self._generation or (channel.feed is not None and channel.feed.epoch == self._generation)


async def begin_stream(
    desk: Desk, session: Session, channel: Channel, wanted: Wanted, request: SubscribeRequest | None
) -> StreamBeginning:
    """Find out where the client begins. Raises Refusal: 103 (somebody else's), 410 (gone), 100 (Redis is away)."""
    feed = channel.feed
    if feed is None:
        raise Refusal(INTERNAL)
    following = request.epoch if request is not None and request.recover and is_generation(request.epoch) else ""
    try:
        view = await _current_view(desk.views, channel, feed)
        if view is not None and _position(request, following, view) > view.offset:
            # It comes from a worker that is ahead of this one; or Redis has lost what it has. Redis knows.
            desk.views.drop(channel.name.removeprefix(PREFIX))
            view = await _current_view(desk.views, channel, feed)
    except (BrokerError, StreamError) as error:
        raise Refusal(INTERNAL) from error
    if view is None and following and desk.views.may_come_back:
        raise Refusal(INTERNAL, "redis may have lost the stream")
    if wanted.as_owner and (view is None or not session.user or view.owner != session.user):
        raise Refusal(PERMISSION_DENIED if view is not None else NOT_RESUMABLE)
    if view is None or view.expired:
        return _without_text(feed, view, following, request)
    beginning = StreamBeginning(request, generation=view.generation)
    position = _position(request, following, view)
    if position > view.offset:
        position = 0  # Redis has lost what the client has: it gets what there is.
    publications = view.since(position)
    superseded = following not in ("", view.generation)
    if superseded:
        publications = [not_resumable(following, "superseded"), *publications]
    beginning.resume(view.generation, position, publications, recovered=not superseded)
    return beginning


def _position(request: SubscribeRequest | None, following: str, view: View) -> int:
    """Number of the newest record that the client has of this generation; 0 = none."""
    return request.offset if request is not None and following == view.generation else 0


def _without_text(feed: Feed, view: View | None, following: str, request: SubscribeRequest | None) -> StreamBeginning:
    """There is no stream, or no text of it any more: the client is told, and joins for what may come."""
    beginning = StreamBeginning(request, generation="")
    seen = request.offset if request is not None else 0
    if view is not None and following == view.generation and seen == view.offset == feed.passed:
        beginning.resume(feed.epoch, seen, [])  # it had the end already
        return beginning
    reason = "unknown" if view is None else "superseded" if following not in ("", view.generation) else "expired"
    told = not_resumable(following or (view.generation if view is not None else ""), reason, feed.passed)
    beginning.resume(feed.epoch, feed.passed, [told], recovered=False)
    return beginning


async def _current_view(views: StreamViews, channel: Channel, feed: Feed) -> View | None:
    """The stream as far as passes have had it, at least. Raises BrokerError, StreamError, Refusal."""
    if not channel.name.startswith(PREFIX):
        return None  # `$stream:x`: a channel in the namespace, but no stream can be there
    key = channel.name.removeprefix(PREFIX)
    for _ in range(ATTEMPTS):
        view = views.get(key)
        if view is None or view.generation != feed.epoch:
            view = await views.read(key)
            if view is None or view.expired:
                return view
            if view.generation != feed.epoch:
                await feed.looked()
                continue
        try:
            await _bring_up_to_date(views, view, feed)
        except LogTooShort:
            views.drop(key)
            continue
        except StreamError:
            views.drop(key)
            raise
        if view.generation == feed.epoch:
            return view
    raise Refusal(INTERNAL, "the stream changes")


async def _bring_up_to_date(views: StreamViews, view: View, feed: Feed) -> None:
    while view.offset < feed.passed and view.generation == feed.epoch:
        fetched = feed.recent.fetch(view.offset)
        page = fetched if isinstance(fetched, list) else await fetched
        if not page:
            return
        before, size = view.offset, view.size
        view.extend(page)
        views.grown(view, size)
        if view.offset == before and page[-1].offset > before:
            raise LogTooShort


class _Cancel(msgspec.Struct):
    """Data of `stream.cancel`."""

    stream: str
    generation: str = ""


async def cancel_stream(desk: Desk, session: Session, command_id: int, request: RpcRequest) -> None:
    """Cancel a stream for its owner: `{"stream": key, "generation": …}`, of which the second may be absent.

    Answers how the stream ended, which is not `cancelled` when it had ended before. Raises Refusal: 103 for anybody
    else, 107, 410 when there is no such stream or generation, 100 when Redis is away.
    """
    try:
        wanted = msgspec.json.decode(bytes(request.data) if request.data else b"", type=_Cancel)
        check_key(wanted.stream)
    except (msgspec.MsgspecError, StreamError) as error:
        raise Refusal(BAD_REQUEST, str(error)) from error
    insecure = session.context.config.auth.insecure
    if not session.user and not insecure:
        raise Refusal(PERMISSION_DENIED)
    cancelled = partial(desk.store.cancel, wanted.stream, wanted.generation, "" if insecure else session.user)
    try:
        outcome = await cancelled()
    except BrokerError as error:
        raise Refusal(INTERNAL) from error
    if outcome.name == "denied":
        raise Refusal(PERMISSION_DENIED)
    if outcome.name not in ("ok", "ended"):
        raise Refusal(NOT_RESUMABLE)
    session.reply(Reply(id=command_id, rpc=RpcResult(data=Raw(msgspec.json.encode({"status": outcome.status})))))
