"""`presence` and `presence_stats`: who is in a channel, on every worker."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from gateway.errors import BrokerError
from gateway.hub import is_unobserved
from gateway.session.outcomes import Refusal
from gateway.session.permissions import check_presence
from protocol.codes import INTERNAL, LIMIT_EXCEEDED, NOT_AVAILABLE
from protocol.commands import PresenceRequest, PresenceStatsRequest
from protocol.replies import ClientInfo, PresenceResult, PresenceStatsResult, Reply

if TYPE_CHECKING:
    from gateway.session.session import Session


async def presence(session: Session, command_id: int, request: PresenceRequest) -> None:
    """Every client of a channel, in one reply. Raises Refusal: 103, 106 for too many, 108, 100 (temporary)."""
    channel = await _observed_channel(session, request.channel)
    stored = session.context.presence.stored
    limit = session.context.config.limits.presence_clients
    found: dict[str, ClientInfo] = {}
    try:
        clients, _ = await stored.stats(channel)
        if clients <= limit:
            async with aclosing(stored.read(channel)) as chunks:
                async for chunk in chunks:
                    found.update(chunk)
                    if len(found) > limit:
                        break
    except BrokerError as error:
        raise Refusal(INTERNAL) from error
    if max(clients, len(found)) > limit:
        raise Refusal(LIMIT_EXCEEDED, f"more than {limit} clients: use presence_stats")
    session.reply(Reply(id=command_id, presence=PresenceResult(presence=found)))


async def presence_stats(session: Session, command_id: int, request: PresenceStatsRequest) -> None:
    """How many clients and users are in a channel. Raises Refusal: 103, 108, 100 (temporary)."""
    channel = await _observed_channel(session, request.channel)
    try:
        clients, users = await session.context.presence.stored.stats(channel)
    except BrokerError as error:
        raise Refusal(INTERNAL) from error
    result = PresenceStatsResult(num_clients=clients, num_users=users)
    session.reply(Reply(id=command_id, presence_stats=result))


async def _observed_channel(session: Session, channel: str) -> str:
    """The name of a channel that the client may look at, once Redis knows of this worker's clients. Raises Refusal."""
    name, rules = session.find(channel)
    if not session.context.config.auth.insecure:
        check_presence(name, rules, session.user, subscribed=name.full in session.subscriptions)
    if not rules.presence or is_unobserved(name.full):
        raise Refusal(NOT_AVAILABLE)
    told = session.context.presence.told(name.full)
    if told is not None:
        await told
    return name.full
