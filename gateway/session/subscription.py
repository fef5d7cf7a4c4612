"""One subscription of one session."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Raw

from gateway.auth import Override
from gateway.config import Namespace
from gateway.hub import Channel, Observed
from protocol.channel import ChannelName

_AS_THE_NAMESPACE_SAYS: Final = Override()


class TokenMark(NamedTuple):
    """What a token can be revoked by."""

    token_id: str
    issued_at: float | None


class _Observed(NamedTuple):
    presence: bool
    join_leave: bool


def _either(changed: bool | None, otherwise: bool) -> bool:
    return otherwise if changed is None else changed


class Subscription:
    """What a session remembers about a channel that it is subscribed to."""

    __slots__ = ("channel", "expires_at", "info", "observed", "server_side", "token")

    def __init__(self, channel: Channel, wanted: Wanted, *, server_side: bool) -> None:
        self.channel = channel
        self.server_side = server_side
        """Made by the server: the client can neither make nor end it."""
        self.expires_at = wanted.expires_at
        """Seconds since 1970 UTC; None = never."""
        self.info = wanted.info
        """Channel information of the client, from its subscription token."""
        self.token = wanted.token
        """What its subscription token can be revoked by; None = it has none."""
        self.observed: Observed = wanted.observed(channel.namespace)
        """What is kept and told of it."""


class Wanted:
    """A subscription that has passed its checks and waits for Redis."""

    __slots__ = ("as_owner", "asks_backend", "data", "expires_at", "id", "info", "name", "override", "token")

    def __init__(self, name: ChannelName, command_id: int = 0) -> None:
        self.name = name
        self.id = command_id
        self.expires_at: float | None = None
        self.info: Raw | None = None
        self.data: Raw | None = None
        self.token: TokenMark | None = None
        self.override = _AS_THE_NAMESPACE_SAYS
        self.asks_backend = False
        self.as_owner = False
        """Only if the token stream is its user's own."""

    def observed(self, rules: Namespace) -> Observed:
        """What is kept and told of it in a channel with these rules."""
        change = self.override
        if change.presence is None and change.join_leave is None:
            return rules
        return _Observed(_either(change.presence, rules.presence), _either(change.join_leave, rules.join_leave))

    def recovers(self, rules: Namespace) -> bool:
        """Whether the client gets what it has missed when it comes back."""
        return rules.has_history and _either(self.override.force_recovery, rules.recover)

    @property
    def key(self) -> tuple[str, str]:
        """What `Hub.open` takes."""
        return (self.name.full, self.name.namespace)
