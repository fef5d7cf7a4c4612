"""Sizes of a run."""

from __future__ import annotations

from dataclasses import dataclass

CHANNELS_PER_CLIENT = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of everything. Times in seconds; rates are publications a second and channel.

    Client i listens to channels i and i + 1 (modulo `channels`): all clients that a fault concerns share theirs.
    """

    clients: int = 500
    channels: int = 10
    rate_per_s: float = 20.0
    surge_per_s: float = 80.0
    """On the channels of clients that do not read: what they leave unread must exceed what may wait for them."""
    payload_bytes: int = 1536
    steady_s: float = 5.0
    """Undisturbed time before each fault."""
    cuts: int = 3
    """Times that the subscriber connections are killed."""
    frozen_s: float = 5.0
    down_s: float = 1.0
    """From the end of Redis to its next start."""
    asleep_s: float = 20.0
    """Time that slow clients do not read."""
    burst: int = 200
    """Publications in one transaction, to overrun the subscribers' output buffer."""
    ping_interval_s: float = 25.0
    pong_timeout_s: float = 8.0
    send_budget_bytes: int = 65_536
    healing_deadline_s: float = 60.0

    @property
    def subscribers(self) -> int:
        """Of one channel."""
        return self.clients * CHANNELS_PER_CLIENT // self.channels


SMALL = Plan(
    clients=40,
    channels=4,
    steady_s=1.0,
    cuts=2,
    frozen_s=2.5,
    down_s=0.5,
    asleep_s=8.0,
    ping_interval_s=4.0,
    pong_timeout_s=2.0,
    healing_deadline_s=30.0,
)
"""For continuous integration: everything happens, to fewer and shorter. Pings come while clients do not read."""
