"""Subscribing a client to a channel without its asking: what a backend may do at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, Raw

from gateway.auth import Override
from gateway.hub import Channel
from gateway.session.outcomes import Refusal
from gateway.session.recovery import Beginning
from gateway.session.subscribing import begin_all, open_channels
from gateway.session.subscription import Wanted
from protocol import control_messages
from protocol.codes import INTERNAL
from protocol.commands import SubscribeRequest
from protocol.control_messages import SubscribeClients
from protocol.replies import Push, Reply, Subscribe

if TYPE_CHECKING:
    from gateway.session.session import Session


async def place(session: Session, message: SubscribeClients) -> None:
    """Subscribe the client and tell it, with what it has missed behind `recover_since`.

    Nothing happens when it is in the channel already, or goes meanwhile. Raises Refusal: 107 and 102 for a channel that
    cannot be, 100 when Redis is away.
    """
    name, _ = session.find(message.channel)
    if name.full in session.subscriptions:
        return
    wanted = Wanted(name)
    wanted.info = Raw(bytes(message.info)) if message.info is not UNSET else None
    wanted.expires_at = message.expire_at or None
    wanted.override = _override(message.override)
    requests: dict[str, SubscribeRequest] = {}
    if (since := message.recover_since) is not None:
        requests[name.full] = SubscribeRequest(recover=True, offset=since.offset, epoch=since.epoch)
    channels = await open_channels(session, [wanted.key])
    (beginning,) = await begin_all(session, channels, [wanted], requests)
    (channel,) = channels
    if session.closed_with is not None or name.full in session.subscriptions:
        session.context.hub.cancel(channel)
        return
    if isinstance(beginning, Refusal) or not channel.ready:
        session.context.hub.cancel(channel)
        raise beginning if isinstance(beginning, Refusal) else Refusal(INTERNAL)
    _join(session, channel, wanted, beginning, message)


def _join(session: Session, channel: Channel, wanted: Wanted, beginning: Beginning, message: SubscribeClients) -> None:
    result = beginning.join(session, channel, wanted, server_side=True)
    push = Subscribe(
        recoverable=result.recoverable,
        epoch=result.epoch,
        offset=result.offset,
        positioned=result.positioned,
        data=message.data,
    )
    session.reply(Reply(push=Push(channel=channel.name, subscribe=push)))
    for publication in result.publications:
        session.reply(Reply(push=Push(channel=channel.name, pub=publication)))
    session.outlet.flush()


def _override(override: control_messages.Override) -> Override:
    return Override(
        presence=None if override.presence is None else override.presence.value,
        join_leave=None if override.join_leave is None else override.join_leave.value,
        force_recovery=None if override.force_recovery is None else override.force_recovery.value,
        force_positioning=None if override.force_positioning is None else override.force_positioning.value,
    )
