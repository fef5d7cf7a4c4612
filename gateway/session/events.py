"""What happens to a client, told to backends as events (`[backend] events_stream`). Nothing where nobody listens.

Channels that every connection of the kind has (`@all`, the user's own `#42`) are not told: `connected` says as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.hub import Member
from protocol.codes import DisconnectCode

if TYPE_CHECKING:
    from gateway.session.context import SessionContext
    from gateway.session.session import Session


def connected(session: Session) -> None:
    if (lifecycle := session.context.lifecycle) is not None:
        lifecycle.connected(session.client, session.user)


def subscribed(session: Session, channel: str) -> None:
    if (lifecycle := session.context.lifecycle) is not None and not _says_nothing(session, channel):
        lifecycle.subscribed(session.client, session.user, channel)


def unsubscribed(session: Session, channel: str) -> None:
    if (lifecycle := session.context.lifecycle) is not None and not _says_nothing(session, channel):
        lifecycle.unsubscribed(session.client, session.user, channel)


def disconnected(session: Session, why: DisconnectCode | str) -> None:
    if (lifecycle := session.context.lifecycle) is not None and session.client:
        lifecycle.disconnected(session.client, session.user, why if isinstance(why, str) else why.reason)


def members(context: SessionContext) -> Iterator[Member]:
    """Everybody who is connected to the worker."""
    for session in context.clients.values():
        channels = [channel for channel in session.subscriptions if not _says_nothing(session, channel)]
        yield Member(session.client, session.user, channels)


def _says_nothing(session: Session, channel: str) -> bool:
    return channel.startswith("@") or channel == f"#{session.user}"
