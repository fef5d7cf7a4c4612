"""The memory governor of one worker: looks once a second, and does what the level asks for.

    level     what is done, on top of the levels before it                                    ends
    SHRINK    caches are emptied, no new compression, garbage is collected, pages given back  with the level
    HALVE     send budgets are halved                                                         with the level
    REFUSE    new connections are closed with 1013; those that are there stay                 with the level
    CLOSE     the client with most unsent bytes is closed (3008), a few each second           with the level
    DRAIN     one worker, that with most memory, closes all its clients (3001) and ends;      with the process
              the supervisor starts another

Every worker looks and acts for itself. In a control group all of them see the same figures, so their looks and closes
are spread by chance; only one drains at a time (`gateway.overload.peers`), and only after `DRAIN_LOOKS` in a row, so
that what the levels before it do has time to help. SDKs come back after 1013, 3001 and 3008, with backoff.

The rule that is easiest to break: levels are states, not events. What a level switches on is switched off when it
ends, whatever level comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.clock import Clock
from gateway.log import get_logger
from gateway.metrics import names
from gateway.overload.heap import Heap
from gateway.overload.ladder import Ladder, Level
from gateway.overload.peers import Peers
from gateway.overload.probe import Probe
from gateway.overload.reading import Reading

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gateway.config import Memory

DRAIN_LOOKS: Final = 3
"""Looks in a row that must find the last level before a worker drains."""
MIB: Final = 1024 * 1024


class Actions(Protocol):
    """What a governor can do to its worker."""

    def shrink_caches(self) -> int:
        """Empty what can be read again; how many caches had something."""
        ...

    def allow_compression(self, allowed: bool) -> None:
        """Whether new connections may be granted compression."""
        ...

    def scale_budgets(self, share: float) -> None:
        """The part of the configured send budget that every connection has, old and new."""
        ...

    def refuse_connections(self, refused: bool) -> None:
        """Whether new connections are turned away (1013)."""
        ...

    def close_slowest(self) -> bool:
        """Close the client with most unsent bytes (3008); False = nobody is slow."""
        ...

    def drain(self, reason: str) -> None:
        """Have the worker close all its clients and end."""
        ...


class Governor:
    """Runs for the life of the worker. `own`: bytes that this worker has for itself."""

    def __init__(
        self,
        settings: Memory,
        probe: Probe,
        actions: Actions,
        heap: Heap,
        peers: Peers,
        own: Callable[[], int],
        counters: memoryview[int],
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._probe = probe
        self._actions = actions
        self._heap = heap
        self._peers = peers
        self._own = own
        self._counters = counters
        self._clock = clock
        self._random = random
        self._ladder = Ladder(settings.thresholds, hysteresis=settings.hysteresis, stalled_at=settings.stalled_percent)
        self._last_looks = 0
        self._owed_closes = 0.0
        self._draining = False
        self._unknown = False
        self._log: FilteringBoundLogger = get_logger()
        self.level = Level.NORMAL

    async def run(self) -> None:
        """Look and act until cancelled."""
        self.look()
        await asyncio.sleep(self._settings.check_interval_s * self._random())
        while True:
            self.look()
            await self._rest()

    def look(self) -> None:
        """Once: measure, change the level if need be, do what can be done at once."""
        self._counters[names.MEMORY_OWN] = self._own()
        reading = self._probe.read()
        if reading is None and not self._unknown:
            self._log.warning("memory is not governed", reason="neither a control group nor the machine tells about it")
        self._unknown = reading is None
        level = self._ladder.look(reading.share, reading.stalled) if reading else self._ladder.look(0.0, 0.0)
        self._show(reading, level)
        if level is not self.level:
            self._change(level, reading)
        if level >= Level.SHRINK:
            self._counters[names.MEMORY_SHRUNK] += self._actions.shrink_caches()
            self._counters[names.MEMORY_COLLECTED] += self._heap.reclaim()
        self._last_looks = self._last_looks + 1 if level is Level.DRAIN else 0
        if self._last_looks >= DRAIN_LOOKS and not self._draining and reading is not None:
            self._drain(reading)

    async def _rest(self) -> None:
        """The time until the next look; in it, clients are closed one by one."""
        settings = self._settings
        closing = self.level >= Level.CLOSE and not self._draining
        self._owed_closes = (
            self._owed_closes % 1 + settings.closes_per_s * settings.check_interval_s if closing else 0.0
        )
        closes = int(self._owed_closes)
        gap_s = settings.check_interval_s / max(1, closes)
        for number in range(max(1, closes)):
            if number < closes and self._actions.close_slowest():
                self._counters[names.MEMORY_CLOSED] += 1
            await asyncio.sleep(gap_s * (0.75 + 0.5 * self._random()))

    def _change(self, level: Level, reading: Reading | None) -> None:
        before, self.level = self.level, level
        say = self._log.warning if level > before else self._log.info
        say(
            "memory level changed",
            now=level.name.lower(),
            before=before.name.lower(),
            does=level.does,
            **_figures(reading),
        )
        counters, actions = self._counters, self._actions
        for step, count, switch in (
            (Level.SHRINK, names.MEMORY_UNCOMPRESSED, lambda on: actions.allow_compression(not on)),
            (Level.HALVE, names.MEMORY_HALVED, lambda on: actions.scale_budgets(0.5 if on else 1.0)),
            (Level.REFUSE, names.MEMORY_REFUSED, actions.refuse_connections),
        ):
            if (level >= step) is not (before >= step):
                switch(level >= step)
                counters[count] += level >= step

    def _drain(self, reading: Reading) -> None:
        if self._peers.may_drain(self._clock.monotonic()):
            self._draining = True
            self._counters[names.MEMORY_DRAINED] += 1
            used, limit = reading.used_bytes // MIB, reading.limit_bytes // MIB
            self._actions.drain(f"out of memory: {used} of {limit} MiB used ({reading.source})")

    def _show(self, reading: Reading | None, level: Level) -> None:
        counters = self._counters
        counters[names.MEMORY_USED] = reading.used_bytes if reading else 0
        counters[names.MEMORY_LIMIT] = reading.limit_bytes if reading else 0
        counters[names.MEMORY_STALLED] = round(reading.stalled) if reading else 0
        counters[names.MEMORY_LEVEL] = level


def _figures(reading: Reading | None) -> dict[str, object]:
    """For the log."""
    if reading is None:
        return {}
    return {
        "used_mib": round(reading.used_bytes / MIB, 1),
        "limit_mib": round(reading.limit_bytes / MIB, 1),
        "share": round(reading.share, 3),
        "stalled_percent": reading.stalled,
        "source": reading.source,
    }
