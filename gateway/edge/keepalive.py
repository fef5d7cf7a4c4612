"""The keepalive wheel: one timer for all connections of a worker.

The wheel has one slot for each tick of a ping interval. A connection sits in one slot. A tick pings the slot under it
with one shared frame, and closes those in the slot that was pinged one pong timeout ago and still owe a pong. A client
that vanished without FIN is therefore found within ping interval + pong timeout (plus a tick, and what ticks wait for).

A connection gets a slot at random in the second half of the interval from now. After a storm all of them sit in one
half of the wheel, so slots that hold more than their share give connections away, to the emptiest ones, when their
pongs have been looked after: the next ping then comes early, never late. Four turns after a storm (100 s) the slots
differ by less than a tenth; it takes longer where the pong timeout leaves little of the interval to move in.

Pings make way for deliveries: who has just got a message is not waiting for a ping, and in a broadcast to 100,000
connections pings would take a tenth of the processor (`make scale`). A tick waits while there is something to deliver.
The wheel then goes on from where it stopped, so that pong timeouts become no shorter. What it may wait for, an eighth
of an interval and at most 3 s, grows again within an interval: a ping is late by twice that at the most, which is less
than the 10 s that SDKs allow.

A worker that stood still (its machine was suspended, or moved to another host) does not make up for all of that time:
its ticks would follow one another so fast that clients were cut off before their pongs could be there.

The wheel also tells connections that have reached their maximum age: no timer of their own. The age is drawn from
[half, whole], so that those who came together do not leave together.

The rule that is easiest to break: a connection may be moved only while it owes no pong, and only to a slot that is
pinged before it is checked, else a ping that was just sent counts as unanswered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heapreplace
from typing import Final, Protocol

TICK_S: Final = 0.1
"""Aimed at; the interval is a whole number of ticks."""
LONGEST_WAIT_S: Final = 3.0
"""For deliveries, without a break."""
WAIT_SHARE: Final = 1 / 8
"""Of an interval: what ticks may wait for when it is short."""
WAIT_STEP_S: Final = 0.02
"""Between two looks whether there is still something to deliver."""
LATE_SHARE: Final = 1 / 8
"""Of a pong timeout: what ticks are late by and make up for. So much less time is left for pongs, at the most."""


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

    def grew_old(self) -> None:
        """Close it: it has reached the maximum age."""
        ...


class KeepaliveWheel:
    """Pings every connection once an interval."""

    __slots__ = (
        "_age_ticks",
        "_connections",
        "_most_late_s",
        "_most_patience_s",
        "_new",
        "_patience_s",
        "_pong_ticks",
        "_position",
        "_random",
        "_slots",
        "_ticks",
        "tick_s",
    )

    def __init__(
        self, interval_s: float, pong_timeout_s: float, random: Callable[[], float], *, max_age_s: float = 0.0
    ) -> None:
        """`random` gives floats in [0, 1); `max_age_s` 0 = connections may stay for ever."""
        count = max(2, round(interval_s / TICK_S))
        self.tick_s = interval_s / count
        # Connection → the tick at which it is too old.
        self._slots: list[dict[Pinged, int | None]] = [{} for _ in range(count)]
        self._new: set[Pinged] = set()  # not pinged yet
        self._pong_ticks = min(count - 1, max(1, -int(-pong_timeout_s // self.tick_s)))
        self._age_ticks = max_age_s / self.tick_s
        self._most_late_s = max(self.tick_s, self._pong_ticks * self.tick_s * LATE_SHARE)
        self._position = 0
        self._ticks = 0
        self._connections = 0
        self._random = random
        self._patience_s = self._most_patience_s = min(LONGEST_WAIT_S, interval_s * WAIT_SHARE)

    @property
    def sizes(self) -> list[int]:
        """Connections in each slot."""
        return [len(slot) for slot in self._slots]

    def add(self, connection: Pinged) -> None:
        """First ping at a random point in the second half of the interval from now, then once an interval."""
        count = len(self._slots)
        ahead = count // 2 + int(self._random() * (count - count // 2))
        too_old = self._ticks + int(self._age_ticks * (0.5 + 0.5 * self._random())) if self._age_ticks else None
        connection.slot = (self._position + max(1, ahead)) % count
        self._slots[connection.slot][connection] = too_old
        self._new.add(connection)
        self._connections += 1

    def remove(self, connection: Pinged) -> None:
        if connection.slot >= 0:
            del self._slots[connection.slot][connection]
            connection.slot = -1
            self._new.discard(connection)
            self._connections -= 1

    def tick(self) -> None:
        """One step: ping a slot, check another."""
        self._ticks += 1
        self._position = (self._position + 1) % len(self._slots)
        checked = self._slots[self._position - self._pong_ticks]
        for connection in list(checked):
            connection.check_pong()
        self._share_out(checked)
        for connection, too_old in list(self._slots[self._position].items()):
            self._new.discard(connection)
            if too_old is not None and too_old <= self._ticks:
                connection.grew_old()
            else:
                connection.ping()

    def _share_out(self, crowded: dict[Pinged, int | None]) -> None:
        """Give away what is more than one slot's share, to emptier slots whose next ping is due within an interval."""
        count = len(self._slots)
        excess = len(crowded) + self._connections // -count
        if excess <= 0:
            return
        # Pinged `_pong_ticks` ago: half an interval after that at the earliest, an interval after it at the latest.
        first, last = max(1, count // 2 - self._pong_ticks), count - self._pong_ticks
        near = [(len(self._slots[(self._position + ahead) % count]), ahead) for ahead in range(first, last)]
        heapify(near)
        for connection in [each for each in crowded if each not in self._new][:excess]:
            if not near or near[0][0] >= len(crowded) - 1:
                return
            size, ahead = near[0]
            heapreplace(near, (size + 1, ahead))
            connection.slot = (self._position + ahead) % count
            self._slots[connection.slot][connection] = crowded.pop(connection)

    async def run(self, delivering: Callable[[], bool]) -> None:
        """Tick until cancelled. Ticks that a busy loop missed are made up, one for each pass of the loop; not more than
        an eighth of the pong timeout, or one tick.

        `delivering` tells whether messages are on their way to connections: ticks make way for them, within bounds.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self.tick_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            while self._patience_s > 0 and delivering():
                begin = loop.time()
                await asyncio.sleep(WAIT_STEP_S)
                waited_s = loop.time() - begin
                due += waited_s
                self._patience_s -= waited_s
            self._patience_s = min(self._most_patience_s, self._patience_s + self._most_patience_s / len(self._slots))
            due = max(due, loop.time() - self._most_late_s)
            self.tick()
