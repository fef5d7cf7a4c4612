"""One subscription of one session."""

from __future__ import annotations

from msgspec import Raw

from gateway.hub import Channel
from protocol.channel import ChannelName


class Subscription:
    """What a session remembers about a channel that it is subscribed to."""

    __slots__ = ("channel", "expires_at", "info", "server_side")

    def __init__(
        self, channel: Channel, *, server_side: bool, expires_at: float | None = None, info: Raw | None = None
    ) -> None:
        self.channel = channel
        self.server_side = server_side
        """Made by the server: the client can neither make nor end it."""
        self.expires_at = expires_at
        """Seconds since 1970 UTC; None = never."""
        self.info = info
        """Channel information of the client, from its subscription token."""


class Wanted:
    """A subscription that has passed its checks and waits for Redis."""

    __slots__ = ("data", "expires_at", "id", "info", "name")

    def __init__(self, name: ChannelName, command_id: int = 0) -> None:
        self.name = name
        self.id = command_id
        self.expires_at: float | None = None
        self.info: Raw | None = None
        self.data: Raw | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What `Hub.open` takes."""
        return (self.name.full, self.name.namespace)
