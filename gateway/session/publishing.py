"""`publish`: from a client to everyone who is subscribed, by way of Redis like every other publication."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from gateway import backend
from gateway.config import STREAM_NAMESPACE
from gateway.errors import BrokerBusy, BrokerError
from gateway.metrics import names
from gateway.session.hooks import ask_to_publish
from gateway.session.outcomes import Refusal
from gateway.session.permissions import check_publish
from protocol.codes import (
    BAD_REQUEST,
    INTERNAL,
    LIMIT_EXCEEDED,
    NOT_AVAILABLE,
    PERMISSION_DENIED,
    TOO_MANY_REQUESTS,
)
from protocol.commands import PublishRequest
from protocol.encodings.json import json_line
from protocol.errors import DecodeError
from protocol.redis_contract import Metadata, encode_envelope, encode_metadata, publish_channel
from protocol.replies import ClientInfo, PublishResult, Reply

if TYPE_CHECKING:
    from gateway.session.session import Session

POSITION_BYTES: Final = 64
"""Room in an envelope for offset and epoch."""
_AS_IT_IS: Final = backend.PublishResult()


async def publish(session: Session, command_id: int, request: PublishRequest) -> None:
    """Queue a publication; the reply comes when Redis has it. Publications of one client keep their order.

    Raises Refusal: 103, 106 for too much data, 107 without valid data, 111 above a rate limit, 100 (temporary) when
    Redis is away or busy.
    """
    context = session.context
    name, rules = session.find(request.channel)
    subscription = session.subscriptions.get(name.full)
    if name.reserved:
        raise Refusal(PERMISSION_DENIED)
    if context.streams is not None and name.namespace == STREAM_NAMESPACE:
        raise Refusal(PERMISSION_DENIED)
    if not context.config.auth.insecure:
        check_publish(name, rules, session.user, subscribed=subscription is not None)
    if request.data is UNSET:
        raise Refusal(BAD_REQUEST, "data is missing")
    try:
        data = json_line(bytes(request.data))
    except DecodeError as error:
        raise Refusal(BAD_REQUEST, f"data is {error}") from error
    _check_rate(session)
    options = _AS_IT_IS
    if rules.publish_by == "backend" and not context.config.auth.insecure:
        options = await ask_to_publish(session, name.full, data)
        data = data if options.data is None else bytes(options.data)
    kept = rules.has_history and not options.skip_history
    if not kept and (options.idempotency_key or options.version):
        # Better refused than ignored: the backend relies on it.
        raise Refusal(NOT_AVAILABLE, "idempotency_key and version need a channel with history")
    subscription = session.subscriptions.get(name.full)
    chan_info = subscription.info if subscription is not None else None
    info = ClientInfo(
        user=session.user, client=session.client, conn_info=session.info or UNSET, chan_info=chan_info or UNSET
    )
    metadata = Metadata(info=info, tags=dict(options.tags), skip_history=rules.has_history and not kept)
    size, allowed = len(data) + len(encode_metadata(metadata)) + POSITION_BYTES, context.config.limits.publication_bytes
    if size > allowed:
        # Workers would drop it, after its sender was told that all is well.
        raise Refusal(LIMIT_EXCEEDED, f"a publication of {size} bytes, {allowed} are allowed")
    done: asyncio.Future[Any]
    try:
        if kept:
            done = context.channel_log.append(
                name.full,
                data,
                metadata,
                size=rules.history_size,
                ttl_s=rules.history_ttl_s,
                key=options.idempotency_key,
                version=options.version,
                version_epoch=options.version_epoch,
            )
        else:
            payload = encode_envelope(data, metadata)
            done = context.broker.publish(publish_channel(context.config.redis.prefix, name.full), payload)
    except BrokerBusy as error:
        raise Refusal(INTERNAL) from error
    context.hub.follow(name.full, session.client)
    done.add_done_callback(partial(_published, session, command_id, name.full, perf_counter()))


def _check_rate(session: Session) -> None:
    """Count a publication of this client and its user. Raises Refusal(111)."""
    context = session.context
    rates = context.rates
    now = context.clock.monotonic()
    if rates.publishes is not None:
        admitted, session.publishes_full_at = rates.publishes.admit(session.publishes_full_at, 1, now)
        if not admitted:
            raise Refusal(TOO_MANY_REQUESTS)
    if rates.user_publishes is not None and not rates.user_publishes.admit(session.user, 1, now):
        raise Refusal(TOO_MANY_REQUESTS)


def _published(session: Session, command_id: int, channel: str, begun: float, done: asyncio.Future[Any]) -> None:
    if session.closed_with is not None:
        return
    error = done.exception()
    if error is None:
        session.context.counters[names.PUBLISHED] += 1
        session.reply(Reply(id=command_id, publish=PublishResult()))
    else:
        if not isinstance(error, BrokerError):
            session.context.counters[names.ERRORS] += 1
            session.context.log.error("publish failed", client=session.client, exc_info=error)
        session.fail(command_id, Refusal(INTERNAL))
    if session.context.latency is not None:
        session.context.latency.record(names.OP_PUBLISH, perf_counter() - begun, channel, session.user)
    session.outlet.flush()
