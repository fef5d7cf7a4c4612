"""Sizes of a run: how many processes it takes to hold so many connections, and where they come from. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PER_WORKER: Final = 16_700
"""Connections of a worker on average; the spread of SO_REUSEPORT is about a hundredth of that."""
PER_GENERATOR: Final = 17_000
ADDRESSES_PER_GENERATOR: Final = 2
"""A client that uses more than about 14,000 ports of one source address slows down in `connect()`."""
MAX_GENERATORS: Final = 126
"""That many pairs of source addresses 127.0.0.2 … 127.0.0.253 there are."""
FILES_RESERVE: Final = 512
"""Descriptors of a worker or a generator that are not client connections, generously."""
PINGS_PER_S: Final = 4_000
"""More pings than that would take a machine of two cores for themselves: they come less often instead."""
SHORTEST_PING_S: Final = 25.0
IN_FLIGHT: Final = 256
"""Connections that are opening at a time, all generators together."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times in seconds, memory in bytes. `channels`: each client is subscribed to one of so many.
    `pause_s` is before each broadcast but the first: it finds the gateway as at rest; 0 = one behind the other."""

    connections: int
    workers: int
    generators: int
    max_connections: int
    ping_interval_s: float
    channels: int = 1
    batch: int = 500
    broadcasts: int = 5
    rest_s: float = 30.0
    pause_s: float = 10.0
    memory_reserve_bytes: int = 2 << 30

    def shares(self) -> list[int]:
        """Connections of each generator."""
        each, more = divmod(self.connections, self.generators)
        return [each + (number < more) for number in range(self.generators)]

    @property
    def in_flight(self) -> int:
        """Connections that one generator opens at a time."""
        return max(4, IN_FLIGHT // self.generators)


def plan_for(connections: int, files: int, *, workers: int = 0, cores: int = 2) -> Plan:
    """The plan for a machine whose processes may have `files` files open. Raises ValueError when there is none.

    `workers` 0 = as many as it takes, at least one a core.
    """
    if connections < 1:
        raise ValueError("there must be a connection at least")
    max_connections = files - FILES_RESERVE
    if max_connections < 1:
        raise ValueError(f"{files} open files a process are too few: raise `ulimit -n`")
    per_worker, per_generator = min(PER_WORKER, max_connections), min(PER_GENERATOR, max_connections)
    fewest = -(-connections // per_worker)
    if workers and workers < fewest:
        raise ValueError(f"{workers} workers with {files} open files each cannot hold {connections:,} connections")
    generators = -(-connections // per_generator)
    if generators > MAX_GENERATORS:
        raise ValueError(f"{connections:,} connections take more than {MAX_GENERATORS} generators")
    return Plan(
        connections=connections,
        workers=workers or max(fewest, cores),
        generators=generators,
        max_connections=max_connections,
        ping_interval_s=max(SHORTEST_PING_S, connections / PINGS_PER_S),
    )


def addresses_of(generator: int) -> list[str]:
    """The source addresses of one generator, counted from 0. No two share one."""
    first = 2 + ADDRESSES_PER_GENERATOR * generator
    return [f"127.0.0.{first + number}" for number in range(ADDRESSES_PER_GENERATOR)]
