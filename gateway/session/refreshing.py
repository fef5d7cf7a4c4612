"""What the backend let in is refreshed by asking it again, and it is told when a client is gone.

A connection of `on_connect` and a subscription of `on_subscribe` are refreshed by the gateway, at the last ping before
they expire: their clients are told of no expiry, because they have no token to refresh. A refresh that fails changes
nothing; the next ping asks again, until `auth.expired_close_delay_s` after the end.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from gateway.backend import DisconnectContext, RefreshContext, SubRefreshContext, SubRefreshResult
from gateway.metrics import names
from gateway.session.asking import Hooked, translated, who
from gateway.session.outcomes import Disconnect, Refusal
from protocol.codes import CONNECTION_CLOSED, CONNECTION_EXPIRED, UNSUBSCRIBED_EXPIRED, DisconnectCode

if TYPE_CHECKING:
    from gateway.session.session import Session
    from gateway.session.subscription import Subscription


def refresh_due(session: Session, hooked: Hooked) -> None:
    """Called with each ping: ask about what expires before the next one."""
    if hooked.refreshing is not None and not hooked.refreshing.done():
        return
    context = session.context
    horizon = context.clock.time() + context.config.keepalive.ping_interval_s
    if not (
        (hooked.lets_in and context.backend.on_refresh is not None and _due(session.expires_at, horizon))
        or (context.backend.on_sub_refresh is not None and _due_subscriptions(session, hooked, horizon))
    ):
        return
    hooked.refreshing = asyncio.get_running_loop().create_task(_refresh(session, hooked, horizon))
    hooked.refreshing.add_done_callback(lambda task: _refreshed(session, task))


def said_goodbye(session: Session, why: DisconnectCode | str) -> None:
    """The client is gone: stop asking about it, and tell the backend if it wants to know."""
    hooked = session.hooked
    if hooked is not None and hooked.refreshing is not None:
        hooked.refreshing.cancel()
    tell = session.context.backend.on_disconnect
    if tell is not None and session.client:
        code, reason = why if isinstance(why, DisconnectCode) else (CONNECTION_CLOSED.code, why)
        tell(DisconnectContext(**who(session), code=code, reason=reason))


def _due(expires_at: float | None, horizon: float) -> bool:
    return expires_at is not None and expires_at <= horizon


def _due_subscriptions(session: Session, hooked: Hooked, horizon: float) -> list[Subscription]:
    hooked.channels &= session.subscriptions.keys()
    found = (session.subscriptions[channel] for channel in hooked.channels)
    return [each for each in found if _due(each.expires_at, horizon)]


async def _refresh(session: Session, hooked: Hooked, horizon: float) -> None:
    """One round. A failure changes nothing: the next ping asks again, until the time to refresh is over."""
    context = session.context
    try:
        ask_connection = context.backend.on_refresh
        if ask_connection is not None and hooked.lets_in and _due(session.expires_at, horizon):
            result = await translated(partial(ask_connection, RefreshContext(**who(session))))
            if result.expired:
                raise Disconnect(CONNECTION_EXPIRED, "the backend said so")
            session.expires_at = result.expire_at
            hooked.meta = result.meta if result.meta is not None and context.backend.wants_meta else hooked.meta
            if result.info is not None:
                session.info = result.info
                session.described_anew(*session.subscriptions.values())
        ask_subscription = context.backend.on_sub_refresh
        if ask_subscription is not None:
            for subscription in _due_subscriptions(session, hooked, horizon):
                asked = SubRefreshContext(**who(session), channel=subscription.channel.name)
                _sub_refreshed(session, subscription, await translated(partial(ask_subscription, asked)))
    except Disconnect as outcome:
        session.disconnect(outcome.disconnect, outcome.why)
    except Refusal as outcome:
        context.log.debug("not refreshed by the backend", client=session.client, why=str(outcome))


def _sub_refreshed(session: Session, subscription: Subscription, result: SubRefreshResult) -> None:
    if session.subscriptions.get(subscription.channel.name) is not subscription:
        return
    if result.expired:
        session.end_subscription(subscription, UNSUBSCRIBED_EXPIRED)
        session.outlet.flush()
        return
    subscription.expires_at = result.expire_at
    if result.info is not None:
        subscription.info = result.info
        session.described_anew(subscription)


def _refreshed(session: Session, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        session.context.counters[names.ERRORS] += 1
        session.context.log.error("refresh by the backend failed", client=session.client, exc_info=error)
