"""What an accepted token says. Plain values: nothing here knows how a token is signed.

Claims of our own next to the registered ones of RFC 7519 are those of the Centrifuge protocol. Names of channels are
taken over as they stand: whoever subscribes a client checks them against the channel grammar.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Namespace settings that a token changes for one subscription. None = as the namespace says."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_recovery: bool | None = None
    force_positioning: bool | None = None


class SubscriptionGrant(msgspec.Struct, frozen=True, kw_only=True):
    """One server-side subscription that a connection token asks for."""

    info: bytes | None = None
    """Channel information of the client: one JSON document on one line."""
    data: bytes | None = None
    """What the client is told with the subscription: one JSON document on one line."""
    override: Override = Override()


class ConnectionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection token says."""

    user: str
    """User id; "" only where anonymous clients are allowed."""
    expires_at: float | None = None
    """End of the connection, seconds since 1970 UTC; None = never. `expire_at` of the token, else its `exp`. Within the
    tolerated clock difference it may lie a little in the past: a time to live made from it needs a lower bound."""
    info: bytes | None = None
    """Information about the connection for presence, joins and publications: one JSON document on one line."""
    channels: tuple[str, ...] = ()
    """Channels that the server subscribes the client to."""
    subs: Mapping[str, SubscriptionGrant] = {}
    """The same with settings: channel → grant."""
    token_id: str = ""
    """`jti`."""
    issued_at: float | None = None
    """`iat`, seconds since 1970 UTC."""
    meta: bytes | None = None
    """For calls to the backend only, never for clients: one JSON document on one line."""


class SubscriptionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription token says. The session checks that `channel`, `user` and `client` are the ones at hand."""

    user: str
    channel: str
    client: str = ""
    """The only client id that may use the token; "" = any client of the user."""
    expires_at: float | None = None
    """End of the subscription, seconds since 1970 UTC; None = never. See `ConnectionClaims.expires_at`."""
    info: bytes | None = None
    """Channel information of the client: one JSON document on one line."""
    data: bytes | None = None
    """What the client is told with the subscription: one JSON document on one line."""
    override: Override = Override()
    token_id: str = ""
    """`jti`."""
    issued_at: float | None = None
    """`iat`, seconds since 1970 UTC."""
