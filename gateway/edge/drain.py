"""Closing every connection, one at a time, so that the clients do not all come back in the same moment.

The rule that is easiest to break: a socket that was accepted and has not finished its handshake is a client, too. It
gets to its end and is told to come back like the others; the process must not end with it half open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from gateway.edge.connection import Connection
from protocol.codes import DisconnectCode

LOOK_S: Final = 0.02
"""Time between two looks at handshakes that are under way."""


async def drain(
    connections: Collection[Connection],
    disconnect: DisconnectCode,
    window_s: float,
    random: Callable[[], float],
    *,
    handshakes: Callable[[], int] = lambda: 0,
    patience_s: float = 0.0,
) -> int:
    """Close `connections` with `disconnect` over `window_s` seconds; returns how many.

    Each gap between two closes is drawn from [gap/2, gap] with gap = window / number of connections. Then wait until no
    `handshakes` are under way, for `patience_s` at most, and close what has come of them.
    """
    closing = dict.fromkeys(connections)
    gap_s = window_s / max(1, len(closing))
    owed_s = 0.0
    for connection in closing:
        connection.shut_down(disconnect)
        owed_s += gap_s * (0.5 + 0.5 * random())
        if owed_s >= 0.005:
            await asyncio.sleep(owed_s)
            owed_s = 0.0
    while True:
        under_way = handshakes()
        for connection in [late for late in connections if late not in closing]:
            closing[connection] = None
            connection.shut_down(disconnect)
        if patience_s <= 0 or not under_way:
            return len(closing)
        await asyncio.sleep(LOOK_S)
        patience_s -= LOOK_S
