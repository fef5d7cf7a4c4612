"""What the memory governor may do to the connections of this worker (`gateway.overload.Actions`).

The rule that is easiest to break: a connection stays in `shared.connections` until its socket is gone, so it may be
closing, or its transport closed, when it is met here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.edge.shared import Shared

LEAST_BYTES: Final = 16_384
"""Unsent bytes below which a client is not slow: to close it would free next to nothing."""


class Caches(Protocol):
    """What is kept in memory and could be read again (`gateway.hub.Hub`)."""

    def drop_recent(self) -> int: ...


class Relief:
    __slots__ = ("_caches", "_shared", "drain")

    def __init__(self, shared: Shared, caches: Caches, drain: Callable[[str], None]) -> None:
        """`drain` is given the reason."""
        self._shared = shared
        self._caches = caches
        self.drain = drain

    def shrink_caches(self) -> int:
        return self._caches.drop_recent()

    def allow_compression(self, allowed: bool) -> None:
        self._shared.compression.allowed = allowed

    def scale_budgets(self, share: float) -> None:
        self._shared.budget_share = share
        budget = self._shared.send_budget_bytes
        for transport in self._shared.connections.values():
            if not transport.is_closing():
                transport.set_write_buffer_limits(high=budget)

    def refuse_connections(self, refused: bool) -> None:
        self._shared.refuses = refused

    def close_slowest(self) -> bool:
        slowest, most = None, LEAST_BYTES - 1
        for connection, transport in self._shared.connections.items():
            unsent = transport.get_write_buffer_size()
            if unsent > most and connection not in self._shared.closings and not transport.is_closing():
                slowest, most = connection, unsent
        if slowest is None:
            return False
        slowest.too_slow()
        return True
