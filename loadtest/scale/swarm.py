"""Many generators at once: they are asked side by side, and grow until there are enough, or something gives way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from loadtest.bench.link import Link
from loadtest.bench.processes import Cores
from loadtest.scale.plan import Plan, addresses_of

MODULE: Final = "loadtest.scale.generator"
BATCH_DEADLINE_S: Final = 60.0
REFUSED_SHARE: Final = 0.1
"""Of a batch. More than that, and it is no accident: growing ends."""


@dataclass(slots=True)
class Grown:
    """How far it went. `client_cpu_s` is what the generators took; `gave_way` says what ended it early, or nothing."""

    connections: int = 0
    elapsed_s: float = 0.0
    client_cpu_s: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    gave_way: str = ""

    @property
    def per_s(self) -> float:
        """Connections a second."""
        return self.connections / self.elapsed_s if self.elapsed_s else 0.0


def free_memory() -> int:
    """`MemAvailable`, in bytes."""
    return int(psutil.virtual_memory().available)


class Swarm:
    """The generators of one run. Made by `start`; ended with its context."""

    def __init__(self, plan: Plan, links: Sequence[Link], pool: ThreadPoolExecutor) -> None:
        self._plan = plan
        self._links = links
        self._pool = pool
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def start(
        cls, plan: Plan, target: dict[str, Any], cores: Cores, folder: Path, module: str = MODULE
    ) -> Iterator[Swarm]:
        """Start the generators and let them sign their tokens. Raises BenchError."""
        links: list[Link] = []
        with ThreadPoolExecutor(max_workers=plan.generators) as pool:
            try:
                for number in range(plan.generators):
                    links.append(Link.start(f"clients-{number}", cores.client, folder, module))
                swarm = cls(plan, links, pool)
                swarm.ask_each("setup", [target] * plan.generators)
                shares, first, orders = plan.shares(), 0, []
                for number, count in enumerate(shares):
                    orders.append({"count": count, "first_user": first, "addresses": addresses_of(number)})
                    first += count
                swarm.ask_each("prepare", orders)
                yield swarm
            finally:
                for link in links:
                    link.stop()

    @property
    def pids(self) -> list[int]:
        """The generators' processes."""
        return [link.pid for link in self._links]

    def ask(self, do: str, **parameters: Any) -> list[dict[str, Any]]:
        """The same command to all; their answers. Raises BenchError when one of them fails."""
        return self.ask_each(do, [parameters] * len(self._links))

    def ask_each(self, do: str, parameters: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """A command to each."""
        return list(self._pool.map(lambda pair: pair[0].ask(do, **pair[1]), zip(self._links, parameters, strict=True)))

    def grow(
        self, progress: Callable[[int], None], free: Callable[[], int] = free_memory, *, in_flight: int = 0
    ) -> Grown:
        """Open all connections; returns when there are enough, or growing has ended for a reason."""
        grown = Grown()
        begin = time.monotonic()

        def one(link: Link, share: int) -> None:
            left = share
            while left and not grown.gave_way:
                if (available := free()) < self._plan.memory_reserve_bytes:
                    with self._lock:
                        grown.gave_way = f"memory: {available >> 20:,} MiB are left"
                    return
                count = min(left, self._plan.batch)
                opened = link.ask(
                    "grow",
                    count=count,
                    in_flight=in_flight or self._plan.in_flight,
                    deadline_s=BATCH_DEADLINE_S,
                )
                left -= count
                with self._lock:
                    self._add(grown, opened, count)
                    progress(grown.connections)

        try:
            list(self._pool.map(one, self._links, self._plan.shares()))
        except BaseException as error:
            grown.gave_way = grown.gave_way or str(error) or type(error).__name__  # the others end after their batch
            raise
        grown.elapsed_s = time.monotonic() - begin
        return grown

    @staticmethod
    def _add(grown: Grown, opened: dict[str, Any], count: int) -> None:
        grown.connections += opened["connections"]
        grown.client_cpu_s += opened["client_cpu_s"]
        grown.refused.update(opened["refused"])
        refused = sum(opened["refused"].values())
        if refused > REFUSED_SHARE * count and not grown.gave_way:
            reason = max(opened["refused"], key=opened["refused"].__getitem__)
            grown.gave_way = f"{refused} of {count} clients were refused: {reason}"
