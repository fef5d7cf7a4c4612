"""`connect` and `refresh`: who the client is, and what the server subscribes it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Raw

from gateway import __version__
from gateway.auth import ConnectionClaims
from gateway.metrics import names
from gateway.session import events
from gateway.session.authenticate import authenticate
from gateway.session.hooks import client_id, identify, remember, told_time_left, welcome_data
from gateway.session.outcomes import Disconnect, Refusal
from gateway.session.recovery import Beginning
from gateway.session.subscribing import begin_all, open_channels
from gateway.session.subscription import Wanted
from protocol.channel import personal_channel
from protocol.codes import INTERNAL, INVALID_TOKEN
from protocol.commands import ConnectRequest, RefreshRequest
from protocol.replies import ConnectResult, RefreshResult, Reply, SubscribeResult

if TYPE_CHECKING:
    from gateway.session.session import Session

VERSION: Final = f"nexus-gateway {__version__}"


async def connect(session: Session, command_id: int, request: ConnectRequest) -> None:
    """Authenticate, subscribe to the server-side channels, answer. Raises Refusal and Disconnect."""
    context = session.context
    try:
        claims = await identify(session, request)
    except Disconnect as refusal:
        invalid = refusal.disconnect is INVALID_TOKEN
        if invalid and (over := context.failures.answer_later(session.outlet.peer)) is not None:
            await over
        raise
    client = client_id(session)
    if context.user_limit is not None:
        await context.user_limit.enter(session, claims.user, client)
    granted = _server_side(session, claims)
    channels = await open_channels(session, [wanted.key for wanted in granted])
    beginnings = await begin_all(session, channels, granted, request.subs)
    if any(isinstance(each, Refusal) for each in beginnings) or not all(channel.ready for channel in channels):
        for channel in channels:
            context.hub.cancel(channel)
        raise Refusal(INTERNAL)
    session.client = client
    session.reads_numbers = not (request.name == "js" and session.outlet.encoding.name == "protobuf")
    session.accept(claims)
    context.users.add(session.user, session)
    context.clients[session.client] = session
    events.connected(session)
    context.counters[names.CLIENTS] += 1
    context.counters[names.USERS] = len(context.users)
    subs: dict[str, SubscribeResult] = {}
    for channel, wanted, beginning in zip(channels, granted, beginnings, strict=True):
        if isinstance(beginning, Beginning):
            subs[channel.name] = beginning.join(session, channel, wanted, server_side=True)
            subs[channel.name].data = wanted.data or UNSET
    native = session.outlet.native_ping
    expires, ttl = told_time_left(session, claims.expires_at)
    result = ConnectResult(
        client=session.client,
        version=VERSION,
        expires=expires,
        ttl=ttl,
        data=welcome_data(session),
        subs=subs,
        ping=0 if native else max(1, round(context.config.keepalive.ping_interval_s)),
        pong=not native,
        node=context.node,
        time=int(context.clock.time() * 1000),
    )
    session.reply(Reply(id=command_id, connect=result))
    session.outlet.connected()
    context.log.info(
        "connection opened",
        client=session.client,
        user=session.user,
        peer=session.outlet.peer,
        encoding=session.outlet.encoding.name,
        sdk=f"{request.name:.32} {request.version:.32}".strip(),
    )


def refresh(session: Session, command_id: int, request: RefreshRequest) -> None:
    """A new token for the same user. Raises Refusal and Disconnect."""
    claims = authenticate(session.context, request.token)
    if claims.user != session.user:
        raise Disconnect(INVALID_TOKEN, "refresh token of another user")
    session.accept(remember(session, claims))
    session.described_anew(*session.subscriptions.values())
    expires, ttl = session.time_left(claims.expires_at)
    result = RefreshResult(client=session.client, version=VERSION, expires=expires, ttl=ttl)
    session.reply(Reply(id=command_id, refresh=result))


def _server_side(session: Session, claims: ConnectionClaims) -> list[Wanted]:
    """What the server subscribes the client to: everyone's channels, its user's, and the granted ones."""
    wanted = {name.full: Wanted(name) for name in session.context.everyone}
    personal = personal_channel(claims.user)
    if personal is not None:
        wanted[personal.full] = Wanted(personal)
    for channel in (*claims.channels, *claims.subs):
        if channel not in wanted:
            try:
                name, _ = session.find(channel)
            except Refusal as refusal:
                raise Disconnect(INVALID_TOKEN, f"token grants {channel!a:.80}: {refusal}") from refusal
            wanted[channel] = Wanted(name)
        grant = claims.subs.get(channel)
        if grant is not None:
            wanted[channel].info = Raw(grant.info) if grant.info else None
            wanted[channel].data = Raw(grant.data) if grant.data else None
            wanted[channel].override = grant.override
    return list(wanted.values())
