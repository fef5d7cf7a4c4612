"""`subscribe`, `unsubscribe` and `sub_refresh`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Raw

from gateway.config import STREAM_NAMESPACE
from gateway.hub import Channel
from gateway.session.authenticate import authorize
from gateway.session.hooks import ask_to_subscribe, told_time_left
from gateway.session.outcomes import Refusal
from gateway.session.permissions import check_subscribe
from gateway.session.recovery import Beginning, begin
from gateway.session.streaming import begin_stream
from gateway.session.subscription import TokenMark, Wanted
from protocol.codes import ALREADY_SUBSCRIBED, INTERNAL, LIMIT_EXCEEDED, PERMISSION_DENIED
from protocol.commands import Command, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest
from protocol.replies import Reply, SubRefreshResult, UnsubscribeResult

if TYPE_CHECKING:
    from gateway.session.session import Session

ROUNDS: Final = 3
"""Times that a beginning is looked for anew because its channel has changed meanwhile."""


async def subscribe(session: Session, commands: list[Command]) -> None:
    """Consecutive subscribe commands: check each, wait once for all, answer each. Raises Disconnect."""
    accepted: dict[str, Wanted] = {}
    requests: dict[str, SubscribeRequest] = {}
    for command in commands:
        if command.subscribe is None:
            continue
        try:
            wanted = _admit(session, command.id, command.subscribe, accepted)
        except Refusal as refusal:
            session.fail(command.id, refusal)
        else:
            accepted[wanted.name.full] = wanted
            requests[wanted.name.full] = command.subscribe
    await ask_to_subscribe(session, accepted, requests)
    channels = await open_channels(session, [each.key for each in accepted.values()])
    beginnings = await begin_all(session, channels, accepted.values(), requests)
    for channel, beginning in zip(channels, beginnings, strict=True):
        wanted = accepted[channel.name]
        if isinstance(beginning, Refusal) or not channel.ready:
            session.context.hub.cancel(channel)
            session.fail(wanted.id, beginning if isinstance(beginning, Refusal) else Refusal(INTERNAL))
            continue
        result = beginning.join(session, channel, wanted, server_side=False)
        result.expires, result.ttl = told_time_left(session, wanted.expires_at, channel.name)
        result.data = wanted.data or UNSET
        session.reply(Reply(id=wanted.id, subscribe=result))


async def begin_all(
    session: Session, channels: list[Channel], wanted: Iterable[Wanted], requests: Mapping[str, SubscribeRequest]
) -> list[Beginning | Refusal]:
    """Where the client begins in each of the opened channels. All are given up when the client goes meanwhile."""
    beginnings: list[Beginning | Refusal] = []
    accepted, rounds = list(wanted), 0
    try:
        for channel, each in zip(channels, accepted, strict=True):
            try:
                if not channel.ready:
                    raise Refusal(INTERNAL)
                beginnings.append(await _begin(session, channel, each, requests.get(channel.name)))
            except Refusal as refusal:
                beginnings.append(refusal)
        # What is current now is so when the clients join: nobody waits for anything in between.
        while stale := [number for number, each in enumerate(beginnings) if not _is_current(each, channels[number])]:
            rounds += 1
            for number in stale:
                try:
                    if rounds > ROUNDS:
                        raise Refusal(INTERNAL)
                    channel = channels[number]
                    request = requests.get(channel.name)
                    beginnings[number] = await _begin(session, channel, accepted[number], request)
                except Refusal as refusal:
                    beginnings[number] = refusal
    except BaseException:
        for channel in channels:
            session.context.hub.cancel(channel)
        raise
    return beginnings


async def _begin(session: Session, channel: Channel, wanted: Wanted, request: SubscribeRequest | None) -> Beginning:
    desk = session.context.streams
    if desk is not None and wanted.name.namespace == STREAM_NAMESPACE:
        return await begin_stream(desk, session, channel, wanted, request)
    return await begin(channel, wanted, request)


def _is_current(beginning: Beginning | Refusal, channel: Channel) -> bool:
    return isinstance(beginning, Refusal) or beginning.is_current(channel)


async def open_channels(session: Session, keys: Iterable[tuple[str, str]]) -> list[Channel]:
    """Get channels ready to join; wait for Redis where necessary. Nothing stays open when the client goes meanwhile."""
    hub = session.context.hub
    channels, ready = hub.open(keys)
    if ready is not None:
        try:
            await ready
        except BaseException:
            for channel in channels:
                hub.cancel(channel)
            raise
    return channels


def _admit(session: Session, command_id: int, request: SubscribeRequest, accepted: dict[str, Wanted]) -> Wanted:
    """All checks of one subscribe. Raises Refusal and Disconnect."""
    name, rules = session.find(request.channel)
    if name.full in session.subscriptions or name.full in accepted:
        raise Refusal(ALREADY_SUBSCRIBED)
    settings = session.context.config
    own = sum(not subscription.server_side for subscription in session.subscriptions.values())
    if own + len(accepted) >= settings.limits.channels_per_client:
        raise Refusal(LIMIT_EXCEEDED, f"{settings.limits.channels_per_client} channels a client")
    wanted = Wanted(name, command_id)
    if settings.auth.insecure:
        return wanted
    wanted.asks_backend = rules.subscribe_by == "backend"
    if request.token and not wanted.asks_backend:
        claims = authorize(session.context, request.token, channel=name.full, user=session.user, client=session.client)
        wanted.expires_at = claims.expires_at
        wanted.info = Raw(claims.info) if claims.info else None
        wanted.data = Raw(claims.data) if claims.data else None
        wanted.token = TokenMark(claims.token_id, claims.issued_at)
        wanted.override = claims.override
    # A token stream is open to its owner, too; who that is, Redis knows.
    wanted.as_owner = (
        session.context.streams is not None
        and name.namespace == STREAM_NAMESPACE
        and rules.subscribe_by == "token"
        and not (request.token or name.private)
    )
    with_token = bool(request.token) or wanted.asks_backend or wanted.as_owner
    check_subscribe(name, rules, session.user, with_token=with_token)
    return wanted


def unsubscribe(session: Session, command_id: int, request: UnsubscribeRequest) -> None:
    """Leave a channel; also answered when the client was not subscribed. Raises Refusal."""
    name, _ = session.find(request.channel)
    subscription = session.subscriptions.get(name.full)
    if subscription is not None:
        if subscription.server_side:
            raise Refusal(PERMISSION_DENIED, "the server made this subscription")
        session.leave(subscription)
    session.reply(Reply(id=command_id, unsubscribe=UnsubscribeResult()))


def sub_refresh(session: Session, command_id: int, request: SubRefreshRequest) -> None:
    """A new token for a subscription that the client has. Raises Refusal and Disconnect."""
    name, _ = session.find(request.channel)
    subscription = session.subscriptions.get(name.full)
    if subscription is None or subscription.server_side:
        raise Refusal(PERMISSION_DENIED, "not subscribed")
    claims = authorize(session.context, request.token, channel=name.full, user=session.user, client=session.client)
    subscription.expires_at = claims.expires_at
    subscription.info = Raw(claims.info) if claims.info else None
    subscription.token = TokenMark(claims.token_id, claims.issued_at)
    session.described_anew(subscription)
    expires, ttl = session.time_left(claims.expires_at)
    session.reply(Reply(id=command_id, sub_refresh=SubRefreshResult(expires=expires, ttl=ttl)))
