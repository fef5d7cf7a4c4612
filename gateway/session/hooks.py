"""What the backend decides for a session: who connects, what it may subscribe to and publish, what a call gives.

Whoever let a client in goes on deciding: what a token granted is refreshed by a token, what the backend granted by
asking it again (`refreshing`). The rule that is easiest to break: a hook comes after all checks of our own, so that no
backend can open what the configuration has closed.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Raw

from gateway.auth import ConnectionClaims, SubscriptionGrant
from gateway.backend import (
    ConnectContext,
    ConnectResult,
    PublishContext,
    PublishResult,
    RpcContext,
    SubscribeContext,
    SubscribeResult,
)
from gateway.session.asking import Hooked, as_bytes, as_override, ask, document, translated, who
from gateway.session.authenticate import authenticate
from gateway.session.outcomes import Disconnect, Refusal
from protocol.codes import ALREADY_SUBSCRIBED, INTERNAL, INVALID_TOKEN, NOT_AVAILABLE
from protocol.commands import ConnectRequest, Data, RpcRequest, SubscribeRequest
from protocol.replies import Reply, RpcResult

if TYPE_CHECKING:
    from gateway.session.session import Session
    from gateway.session.subscription import Wanted

SUBSCRIBES_AT_ONCE: Final = 8
"""Calls under way for one client that subscribes to many channels."""


# Connect.


async def identify(session: Session, request: ConnectRequest) -> ConnectionClaims:
    """Who connects: what the token says, or without one what the backend says. Raises Refusal and Disconnect."""
    context = session.context
    hook = context.backend.on_connect
    if hook is None or request.token or context.config.auth.insecure:
        return remember(session, authenticate(context, request.token))
    session.hooked = Hooked(client=_new_id())
    asked = ConnectContext(
        **who(session),
        data=document(request.data),
        name=request.name,
        version=request.version,
        channels=tuple(request.subs),
    )
    result = await ask(partial(hook, asked))
    return _let_in(session, session.hooked, result)


def remember(session: Session, claims: ConnectionClaims) -> ConnectionClaims:
    """Keep what a token says for the backend. A token is refreshed by a token."""
    hooked = session.hooked
    meta = Raw(claims.meta) if claims.meta is not None and session.context.backend.wants_meta else None
    if hooked is not None:
        hooked.lets_in = False
        hooked.meta = meta
    elif meta is not None:
        session.hooked = Hooked(meta=meta)
    return claims


def client_id(session: Session) -> str:
    """The id of a client that is about to connect."""
    return session.hooked.client if session.hooked is not None and session.hooked.client else _new_id()


def welcome_data(session: Session) -> Data:
    """What the reply to `connect` says besides."""
    hooked = session.hooked
    if hooked is None or hooked.data is None:
        return UNSET
    data, hooked.data = hooked.data, None
    return data


def told_time_left(session: Session, expires_at: float | None, channel: str = "") -> tuple[bool, int]:
    """The fields `expires` and `ttl` of a reply: only for what the client can refresh itself."""
    hooked = session.hooked
    if hooked is not None and (channel in hooked.channels if channel else hooked.lets_in):
        return False, 0
    return session.time_left(expires_at)


def _let_in(session: Session, hooked: Hooked, result: ConnectResult) -> ConnectionClaims:
    if not result.user and not session.context.config.auth.anonymous:
        raise Disconnect(INVALID_TOKEN, "the backend named no user, and anonymous clients are not allowed")
    for channel in (*result.channels, *result.subs):
        try:
            session.find(channel)
        except Refusal as refusal:
            session.context.log.warning("backend named a channel that cannot be", hook="connect", why=str(refusal))
            raise Refusal(INTERNAL) from refusal
    hooked.meta = result.meta if session.context.backend.wants_meta else None
    hooked.data = result.data
    hooked.lets_in = True
    return ConnectionClaims(
        user=result.user,
        expires_at=result.expire_at,
        info=as_bytes(result.info),
        channels=result.channels,
        subs={
            channel: SubscriptionGrant(
                info=as_bytes(each.info), data=as_bytes(each.data), override=as_override(each.override)
            )
            for channel, each in result.subs.items()
        },
    )


# Subscribe, publish, rpc.


async def ask_to_subscribe(
    session: Session, accepted: dict[str, Wanted], requests: dict[str, SubscribeRequest]
) -> None:
    """Ask about those of the accepted subscriptions that are the backend's to allow, and take out those that it does
    not. Raises Disconnect."""
    if not any(wanted.asks_backend for wanted in accepted.values()):
        return
    hooked = session.hooked = session.hooked or Hooked()
    hooked.channels &= session.subscriptions.keys()
    asked = [name for name, wanted in accepted.items() if wanted.asks_backend]
    answers = await ask(partial(_ask_all, session, asked, requests))
    for name, answer in zip(asked, answers, strict=True):
        wanted = accepted[name]
        outcome = Refusal(ALREADY_SUBSCRIBED) if name in session.subscriptions else answer
        if isinstance(outcome, Disconnect):
            raise outcome
        if isinstance(outcome, Refusal):
            session.fail(wanted.id, outcome)
            del accepted[name], requests[name]
            continue
        wanted.expires_at = outcome.expire_at
        wanted.info = outcome.info
        wanted.data = outcome.data
        wanted.override = as_override(outcome.override)
        hooked.channels.add(name)


async def _ask_all(
    session: Session, channels: list[str], requests: dict[str, SubscribeRequest]
) -> list[SubscribeResult | Refusal | Disconnect]:
    hook = session.context.backend.on_subscribe
    free = asyncio.Semaphore(SUBSCRIBES_AT_ONCE)

    async def ask_one(channel: str) -> SubscribeResult | Refusal | Disconnect:
        request = requests[channel]
        try:
            if hook is None:
                raise Refusal(NOT_AVAILABLE)
            data = document(request.data)
            asked = SubscribeContext(**who(session), channel=channel, token=request.token, data=data)
            async with free:
                return await translated(partial(hook, asked))
        except (Refusal, Disconnect) as outcome:
            return outcome

    return await asyncio.gather(*map(ask_one, channels))


async def ask_to_publish(session: Session, channel: str, data: bytes) -> PublishResult:
    """What the backend says to a publication. Raises Refusal and Disconnect."""
    hook = session.context.backend.on_publish
    if hook is None:
        raise Refusal(NOT_AVAILABLE)
    result: PublishResult = await ask(partial(hook, PublishContext(**who(session), channel=channel, data=Raw(data))))
    return result


async def rpc(session: Session, command_id: int, request: RpcRequest) -> None:
    """Hand a call to the backend and its result to the client. Raises Refusal (108 with no backend) and Disconnect."""
    hook = session.context.backend.on_rpc
    if hook is None:
        raise Refusal(NOT_AVAILABLE)
    asked = RpcContext(**who(session), method=request.method, data=document(request.data))
    result = await ask(partial(hook, asked))
    session.reply(Reply(id=command_id, rpc=RpcResult(data=result.data if result.data is not None else UNSET)))


def _new_id() -> str:
    return os.urandom(16).hex()
