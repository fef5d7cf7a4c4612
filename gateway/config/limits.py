"""What one client, one user, one address or one worker may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Section

Rate = Annotated[float, Field(ge=0, le=1_000_000)]
"""So many a second, for long; 0 = no such limit."""
Burst = Annotated[int, Field(ge=1, le=1_000_000)]


class Limits(Section):
    """What one client, one user, one address or one worker may take."""

    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 15000
    """WebSocket connections per worker; a full worker answers 1013. Never above the file limit minus a reserve."""
    connections_per_ip: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """WebSocket connections from one IPv4 address, or one IPv6 /64, to all workers of this machine; above it HTTP 429
    with `Retry-After`. 0 = no limit. Behind a proxy set `server.trusted_proxies` or `server.proxy_protocol`, too."""
    connections_per_user: Annotated[int, Field(ge=0, le=1000)] = 0
    """Connections of one user, in the whole fleet; 0 = no limit. Anonymous clients are not counted."""
    user_limit_policy: Literal["refuse_new", "close_oldest"] = "refuse_new"
    """Who goes when a user has too many connections (3504): the new one or the oldest."""
    handshakes_per_s: Rate = 4000.0
    """Handshakes that a worker completes in a second, evenly spread, fewer while it is busy with other work; the others
    wait for their turn. Lower = the connections that are there notice less of a storm. 0 = no limit."""
    handshakes_waiting: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Handshakes that wait for their turn in a worker; above it HTTP 503 with `Retry-After`. Never more than have their
    turn within half of `connect_timeout_s`."""
    request_bytes: Annotated[int, Field(ge=4096, le=1_048_576)] = 32768
    """Size of a whole handshake request, cookies included; a larger one is answered with HTTP 431."""
    auth_failures: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Invalid tokens from one address in a minute that are answered (3500) at once; every further answer comes later
    than the one before. Good tokens are never answered late. 0 = no answer is delayed."""
    auth_delay_s: Annotated[float, Field(ge=0.1, le=8)] = 4.0
    """Longest delay of such an answer."""
    message_bytes: Annotated[int, Field(ge=1024, le=16_777_216)] = 65536
    """Largest message from a client; a larger one closes the connection with 1009."""
    publication_bytes: Annotated[int, Field(ge=1024, le=268_435_456)] = 1_048_576
    """Largest payload taken from a Redis channel; a larger one is dropped, counted and logged."""
    channels_per_client: Annotated[int, Field(ge=1, le=100_000)] = 128
    """Channels that a client may subscribe to; server-side ones are not counted."""
    channel_length: Annotated[int, Field(ge=16, le=1024)] = 255
    """Characters in a channel name."""
    commands_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 100.0
    """Commands per second that a client may send for long; above it: error 111, then close 3013."""
    commands_burst: Burst = 500
    """Commands that a client may send at once."""
    publishes_per_s: Rate = 0.0
    """Publications per second that a client may send for long; answers as above. 0 = only the commands are limited."""
    publishes_burst: Burst = 50
    """Publications that a client may send at once, if they are limited."""
    user_commands_per_s: Rate = 0.0
    """Commands per second of all connections of one user to one worker; answers as above. 0 = no limit."""
    user_commands_burst: Burst = 1000
    """Commands that all these connections may send at once."""
    user_publishes_per_s: Rate = 0.0
    """Publications per second of all connections of one user to one worker; answers as above. 0 = no limit."""
    user_publishes_burst: Burst = 100
    """Publications that all these connections may send at once."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0
    """Time for the handshake, and again from the handshake to `connect` (3502)."""
    close_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Time that a client has to answer a close frame before its socket is reset."""
    history_page: Annotated[int, Field(ge=1, le=10_000)] = 300
    """Publications that one history reply holds at most."""
    presence_clients: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Clients that one presence reply holds at most; with more: error 106 (`presence_stats` works)."""

    @property
    def handshake_places(self) -> int:
        """Handshakes that may wait, so that the last one's turn comes before it times out."""
        return min(self.handshakes_waiting, int(self.handshakes_per_s * self.connect_timeout_s / 2))
