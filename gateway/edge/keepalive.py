"""The keepalive wheel: one timer for all connections of a worker.

The wheel has one slot for each tick of a ping interval. A connection sits in one slot, drawn at random, so pings spread
evenly over the interval. A tick pings the slot under it with one shared frame, and closes those in the slot that was
pinged one pong timeout ago and still owe a pong. A client that vanished without FIN is therefore found within
ping interval + pong timeout (plus a tick).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

TICK_S: Final = 0.1
"""Aimed at; the interval is a whole number of ticks."""


class Pinged(Protocol):
    """What the wheel needs of a connection."""

    slot: int
    """Where it sits; -1 = nowhere. Written by the wheel only."""

    def ping(self) -> None:
        """Send a ping, and remember that a pong is owed."""
        ...

    def check_pong(self) -> None:
        """Close it if the pong is still owed."""
        ...


class KeepaliveWheel:
    """Pings every connection once an interval."""

    __slots__ = ("_pong_ticks", "_position", "_random", "_slots", "tick_s")

    def __init__(self, interval_s: float, pong_timeout_s: float, random: Callable[[], float]) -> None:
        """`random` gives floats in [0, 1)."""
        count = max(2, round(interval_s / TICK_S))
        self.tick_s = interval_s / count
        self._slots: list[dict[Pinged, None]] = [{} for _ in range(count)]
        self._pong_ticks = min(count - 1, max(1, -int(-pong_timeout_s // self.tick_s)))
        self._position = 0
        self._random = random

    def add(self, connection: Pinged) -> None:
        """First ping at a random point in the second half of the interval from now, then once an interval."""
        count = len(self._slots)
        ahead = count // 2 + int(self._random() * (count - count // 2))
        connection.slot = (self._position + max(1, ahead)) % count
        self._slots[connection.slot][connection] = None

    def remove(self, connection: Pinged) -> None:
        if connection.slot >= 0:
            self._slots[connection.slot].pop(connection, None)
            connection.slot = -1

    def tick(self) -> None:
        """One step: ping a slot, check another."""
        self._position = (self._position + 1) % len(self._slots)
        for connection in list(self._slots[self._position - self._pong_ticks]):
            connection.check_pong()
        for connection in list(self._slots[self._position]):
            connection.ping()

    async def run(self) -> None:
        """Tick until cancelled. Ticks that a busy loop missed are made up, one for each pass of the loop."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self.tick_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.tick()
