"""What a worker does once in a while for all connections: deadlines, heartbeat and how late it is, the heap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock
from gateway.edge.shared import Shared
from gateway.metrics import LatencyRecorder, names
from gateway.overload import Heap

INTERVAL_S = 0.25
"""Resolution of the connect, handshake and close time-outs."""


async def tend(
    shared: Shared,
    clock: Clock,
    counters: memoryview[int],
    heap: Heap,
    *,
    redis_channels: Callable[[], int],
    latency: LatencyRecorder | None = None,
) -> None:
    """Run until cancelled."""
    heap.settle()
    while True:
        counters[names.BEAT_MS] = int(clock.monotonic() * 1000)
        counters[names.REDIS_CHANNELS] = redis_channels()
        counters[names.TASKS] = len(asyncio.all_tasks())
        for opening in shared.handshakes.expire():
            opening.handshake_timed_out()
        for connection in shared.connects.expire():
            connection.connect_timed_out()
        for closing in shared.closings.expire():
            closing.close_timed_out()
        heap.grown_to(len(shared.connections))
        due = clock.monotonic() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        if latency is not None:
            now = clock.monotonic()
            latency.tick(now, clock.time())
            latency.record(names.OP_LOOP_LAG, max(0.0, now - due))
