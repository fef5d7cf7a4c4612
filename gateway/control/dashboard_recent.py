"""What the counters were in the last minutes: rates and the curves of the dashboard are differences of these.

One sample a second, whether somebody looks or not, so that the page has its curves at once and knows since when Redis
is away. The rule that is easiest to break: counters of workers that have died belong to the sums, else these go back.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from gateway.metrics import CounterTable
from gateway.metrics.names import (
    BYTES_IN,
    BYTES_OUT,
    CLOSED,
    COMMANDS,
    CONNECTIONS,
    DELIVERIES,
    OPENED,
    PID,
    PUBLICATIONS,
    PUBLISHED,
    REDIS_CONNECTED,
)

INTERVAL_S: Final = 1.0
"""Time between two samples."""
SAMPLES: Final = 300
"""Samples that are kept: five minutes."""
RATE_OVER: Final = 3
"""Samples that a rate reaches back."""


class Rates(msgspec.Struct, frozen=True):
    """Per second, of all workers together."""

    publications: float = 0.0
    """Taken from Redis, each worker for itself."""
    client_publications: float = 0.0
    deliveries: float = 0.0
    commands: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    opened: float = 0.0
    """Connections."""
    closed: float = 0.0


class Curves(msgspec.Struct):
    """The same over the last minutes, as columns; oldest first."""

    time: list[float]
    """Seconds since 1970 UTC."""
    connections: list[int]
    publications: list[float]
    deliveries: list[float]
    bytes_out: list[float]


class Sample(NamedTuple):
    """One look at the table."""

    monotonic_s: float
    wall_s: float
    cells: list[int]
    """Sums over all workers, running or not, by the constants of `gateway.metrics.names`."""


class Recent:
    """The samples. `note` takes one."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self.redis_away_since: float | None = None
        """When no worker had a connection to Redis any more, seconds since 1970 UTC; None = one has, or none runs."""

    def note(self, monotonic_s: float, wall_s: float) -> None:
        """Take a sample."""
        rows = [self._table.row(index).tolist() for index in range(self._table.rows)]
        self._samples.append(Sample(monotonic_s, wall_s, [sum(cells) for cells in zip(*rows, strict=True)]))
        running = [row for row in rows if row[PID]]
        if not running or any(row[REDIS_CONNECTED] for row in running):
            self.redis_away_since = None
        elif self.redis_away_since is None:
            self.redis_away_since = wall_s

    def rates(self) -> Rates | None:
        """Over the last seconds; None until there are two samples."""
        if len(self._samples) < 2:
            return None
        return _rates(self._samples[max(0, len(self._samples) - 1 - RATE_OVER)], self._samples[-1])

    def per_second(self, cell: int) -> float:
        """The rate of one counter; 0 until there are two samples."""
        if len(self._samples) < 2:
            return 0.0
        return _per_second(self._samples[max(0, len(self._samples) - 1 - RATE_OVER)], self._samples[-1], cell)

    def curves(self) -> Curves:
        """All that is kept; without the first sample, which has none before it."""
        curves = Curves([], [], [], [], [])
        for before, after in pairwise(self._samples):
            rates = _rates(before, after)
            curves.time.append(round(after.wall_s, 1))
            curves.connections.append(after.cells[CONNECTIONS])
            curves.publications.append(rates.publications)
            curves.deliveries.append(rates.deliveries)
            curves.bytes_out.append(rates.bytes_out)
        return curves


def _rates(before: Sample, after: Sample) -> Rates:
    cells = (PUBLICATIONS, PUBLISHED, DELIVERIES, COMMANDS, BYTES_IN, BYTES_OUT, OPENED, CLOSED)
    return Rates(*(_per_second(before, after, cell) for cell in cells))


def _per_second(before: Sample, after: Sample, cell: int) -> float:
    seconds = after.monotonic_s - before.monotonic_s
    return round(max(0, after.cells[cell] - before.cells[cell]) / seconds, 2) if seconds > 0 else 0.0
