"""What all sessions of a worker share, and what a session needs of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.auth import Revocations, TokenVerifier
from gateway.backend import NOBODY, Backend
from gateway.broker import ChannelLog
from gateway.clock import Clock
from gateway.config import Config, Namespace
from gateway.hub import Hub, Lifecycle, Presence, Receiver, UserIndex
from gateway.session.failures import Failures
from gateway.session.rate import RateLimit, Rates
from protocol.channel import EVERYONE, ChannelName, parse_channel
from protocol.codes import DisconnectCode

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gateway.metrics import LatencyRecorder
    from gateway.session.session import Session
    from gateway.session.streaming import Desk
    from gateway.session.user_limit import UserLimit


class Outlet(Receiver, Protocol):
    """What a session needs of its connection."""

    @property
    def native_ping(self) -> bool:
        """Whether the client asked for WebSocket pings instead of protocol pings."""
        ...

    @property
    def peer(self) -> str:
        """Address of the client, for the log."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the handshake that the backend wants to see."""
        ...

    def send(self, message: bytes) -> None:
        """Queue one message; it leaves with the next `flush`, together with what else is queued."""
        ...

    def flush(self) -> None:
        """Write what is queued, in one write."""
        ...

    def close(self, disconnect: DisconnectCode) -> None:
        """Start the closing handshake. Nothing is sent afterwards."""
        ...

    def connected(self) -> None:
        """The client has completed `connect`: it gets pings from now on."""
        ...

    def pause_commands(self) -> None:
        """Take no more from the socket: a command waits for something."""
        ...

    def resume_commands(self) -> None: ...


class PublishesToRedis(Protocol):
    """What a session needs of the broker."""

    def publish(self, channel: bytes, payload: bytes) -> asyncio.Future[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """The shared parts, wired once by the worker."""

    config: Config
    hub: Hub
    users: UserIndex[Session]
    broker: PublishesToRedis
    channel_log: ChannelLog
    presence: Presence
    verifier: TokenVerifier
    revocations: Revocations
    clients: dict[str, Session]
    """Client id → session, once it has connected."""
    counters: memoryview[int]
    clock: Clock
    log: FilteringBoundLogger
    node: str
    rate: RateLimit
    everyone: tuple[ChannelName, ...]
    """Channels that every client is subscribed to."""
    rates: Rates
    """The limits besides `rate`."""
    failures: Failures
    user_limit: UserLimit | None = None
    """Counts the connections of users; None = nobody does."""
    latency: LatencyRecorder | None = None
    """Gets the time that commands take; None = nobody wants to know."""
    backend: Backend = NOBODY
    """Whom sessions ask."""
    lifecycle: Lifecycle | None = None
    """Events of clients, for backends; None = nobody wants them."""

    streams: Desk | None = None
    """Token streams; None = there are none."""

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        return self.config.namespaces


def channels_of_everyone(namespaces: Mapping[str, Namespace]) -> tuple[ChannelName, ...]:
    """The channels that every client is subscribed to: `@all` and those of the configuration."""
    configured = (channel for rules in namespaces.values() for channel in rules.server_side)
    return tuple(parse_channel(channel) for channel in dict.fromkeys((EVERYONE, *configured)))
