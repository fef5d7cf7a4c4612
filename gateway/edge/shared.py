"""What all connections of a worker share, wired once by the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.config import Config
from gateway.edge.admission import Admission
from gateway.edge.compression import Compression
from gateway.edge.deadlines import Deadlines
from gateway.edge.keepalive import KeepaliveWheel
from gateway.session import SessionContext

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gateway.edge.connection import Connection
    from gateway.edge.opening import Opening


class Closing(Protocol):
    """A socket that should be closed by its client soon."""

    def close_timed_out(self) -> None:
        """The client did not take part in the closing handshake."""
        ...


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all connections of a worker share, wired once."""

    config: Config
    session: SessionContext
    counters: memoryview[int]
    log: FilteringBoundLogger
    wheel: KeepaliveWheel
    handshakes: Deadlines[Opening]
    connects: Deadlines[Connection]
    closings: Deadlines[Closing]
    admission: Admission
    compression: Compression
    ready: Callable[[], tuple[bool, str]]
    """Answer of `/health/ready`."""
    connections: dict[Connection, asyncio.Transport] = field(default_factory=dict)
    """Every connection past its handshake, and its socket."""
    refuses: bool = False
    """Set while the memory governor wants no new connections."""
    budget_share: float = 1.0
    """Part of the configured send budget that connections have. The memory governor's."""
    on_change: Callable[[], None] | None = None
    """Called when a connection has come or gone."""
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while there are no connections."""

    @property
    def full(self) -> bool:
        """Whether a new connection must be turned away."""
        return self.refuses or len(self.connections) >= self.config.limits.max_connections

    @property
    def send_budget_bytes(self) -> int:
        """Bytes that may wait in one connection's send buffer."""
        return int(self.config.delivery.send_budget_bytes * self.budget_share)

    @property
    def late_pongs(self) -> int:
        """Pongs in a row that a client may owe while it reads slowly."""
        return int(self.config.delivery.slow_timeout_s // self.config.keepalive.ping_interval_s)

    def changed(self) -> None:
        if self.connections:
            self.empty.clear()
        else:
            self.empty.set()
        if self.on_change is not None:
            self.on_change()

    def left(self, peer: str) -> None:
        """The socket of a connection is gone. `peer`: its address and port."""
        self.admission.leave(peer.rpartition(":")[0])
        self.changed()

    async def all_closed(self, timeout_s: float) -> None:
        """Wait until every socket is closed; reset those that are still open after `timeout_s`."""
        self.changed()
        try:
            async with asyncio.timeout(timeout_s):
                await self.empty.wait()
        except TimeoutError:
            for connection in list(self.connections):
                connection.close_timed_out()
