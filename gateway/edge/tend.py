"""What a worker does once in a while for all connections: deadlines, heartbeat and how late it is, garbage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from gateway.clock import Clock
from gateway.edge.shared import Shared
from gateway.metrics import LatencyRecorder, names

INTERVAL_S = 0.25
"""Resolution of the connect, handshake and close time-outs."""
GROWTH = 1000
"""Connections that must have come since the heap was last frozen."""


YOUNG_OBJECTS = 10_000
"""Allocations between two young collections: a connection makes about 60 objects, and they are there to stay."""


async def tend(
    shared: Shared,
    clock: Clock,
    counters: memoryview[int],
    *,
    redis_channels: Callable[[], int],
    latency: LatencyRecorder | None = None,
) -> None:
    """Run until cancelled.

    Long-lived objects are frozen: a full collection would walk over all of them, 100 ms and more with 10,000
    connections, and find nothing, because a closed connection takes itself apart.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    gc.collect()
    gc.freeze()
    frozen_at = 0
    while True:
        counters[names.BEAT_MS] = int(clock.monotonic() * 1000)
        counters[names.REDIS_CHANNELS] = redis_channels()
        for opening in shared.handshakes.expire():
            opening.handshake_timed_out()
        for connection in shared.connects.expire():
            connection.connect_timed_out()
        for closing in shared.closings.expire():
            closing.close_timed_out()
        connections = len(shared.connections)
        if connections > frozen_at + GROWTH:
            gc.freeze()
            frozen_at = connections
        elif connections < frozen_at // 2:
            frozen_at = connections
        due = clock.monotonic() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        if latency is not None:
            now = clock.monotonic()
            latency.tick(now, clock.time())
            latency.record(names.OP_LOOP_LAG, max(0.0, now - due))
