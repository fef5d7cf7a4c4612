"""Closing every connection, one at a time, so that the clients do not all come back in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from gateway.edge.connection import Connection
from protocol.codes import DisconnectCode


async def drain(
    connections: Collection[Connection], disconnect: DisconnectCode, window_s: float, random: Callable[[], float]
) -> int:
    """Close `connections` with `disconnect` over `window_s` seconds; returns how many.

    Each gap between two closes is drawn from [gap/2, gap] with gap = window / number of connections.
    """
    closing = list(connections)
    if not closing:
        return 0
    gap_s = window_s / len(closing)
    owed_s = 0.0
    for connection in closing:
        connection.shut_down(disconnect)
        owed_s += gap_s * (0.5 + 0.5 * random())
        if owed_s >= 0.005:
            await asyncio.sleep(owed_s)
            owed_s = 0.0
    return len(closing)
