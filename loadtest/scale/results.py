"""What a run has found, and what follows from it. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from loadtest.scale.limits import Limit
from loadtest.scale.plan import Plan
from loadtest.scale.shares import Shares
from loadtest.scale.swarm import Grown

KIB_TARGET: Final = 8.0
"""RSS of the workers for each connection."""
BROADCAST_TARGET_S: Final = 1.5
"""From publishing until the last of 100,000 clients has it; more clients get more time, in proportion."""
BROADCAST_CLIENTS: Final = 100_000


class Verdict(IntEnum):
    """Exit codes of the load tests."""

    PASSED = 0
    FAILED = 1
    CANNOT_RUN = 2
    NOT_JUDGED = 3
    """The load generator, or another program on this machine, was what limited the figures."""
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One message to every client. Times from its publishing, in ms."""

    expected: int
    received: int
    p50_ms: int
    p99_ms: int
    last_ms: int


def broadcast_of(expected: int, heard: Iterable[Sequence[Sequence[int]]]) -> Broadcast:
    """Put together what the generators have heard: pairs (ms, deliveries)."""
    times: Counter[int] = Counter()
    for pairs in heard:
        for ms, count in pairs:
            times[ms] += count
    received = times.total()
    return Broadcast(expected, received, _at(times, 0.5), _at(times, 0.99), max(times, default=0))


def _at(times: Counter[int], share: float) -> int:
    wanted, seen = share * times.total(), 0
    for ms in sorted(times):
        seen += times[ms]
        if seen >= wanted:
            return ms
    return 0


@dataclass(slots=True)
class Results:
    """One run."""

    plan: Plan
    grown: Grown = field(default_factory=Grown)
    left: int = 0
    """Connections that were there at the end."""
    wrong: list[str] = field(default_factory=list)
    by_worker: dict[str, int] = field(default_factory=dict)
    rss_kib: float = 0.0
    """Of all workers, for each connection; what they had without any is not in it."""
    pss_kib: float = 0.0
    machine_kib: float = 0.0
    """What less memory was available for each connection: both ends, kernel, Redis, generators."""
    idle_worker_mib: float = 0.0
    """PSS of a worker without connections."""
    opening: Shares | None = None
    rest: Shares | None = None
    delivering: Shares | None = None
    broadcasts: list[Broadcast] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)

    @property
    def broadcast_s(self) -> float:
        """The time of the median broadcast until the last client had it."""
        times = sorted(each.last_ms for each in self.broadcasts)
        return times[len(times) // 2] / 1000 if times else 0.0

    @property
    def cpu_us_per_delivery(self) -> float:
        """CPU time of the workers."""
        deliveries = sum(each.received for each in self.broadcasts)
        if self.delivering is None or not deliveries:
            return 0.0
        return self.delivering.by_role["gateway"] * self.delivering.seconds * 1e6 / deliveries

    @property
    def broadcast_target_s(self) -> float:
        """What the broadcast may take."""
        return BROADCAST_TARGET_S * max(1.0, self.grown.connections / BROADCAST_CLIENTS)

    def failures(self) -> list[str]:
        """What is wrong whatever the machine did: clients or messages that are missing."""
        found = list(self.wrong)
        if self.grown.gave_way:
            found.append(f"{self.grown.connections:,} connections, then gave way: {self.grown.gave_way}")
        elif self.grown.connections < self.plan.connections:
            found.append(f"{self.grown.connections:,} of {self.plan.connections:,} clients are connected")
        if self.left < self.grown.connections:
            found.append(f"{self.grown.connections - self.left:,} connections were lost")
        missing = sum(each.expected - each.received for each in self.broadcasts)
        if missing:
            found.append(f"{missing:,} deliveries are missing")
        return found

    def slow(self) -> list[str]:
        """Targets that were missed and that a busy machine can be the reason for."""
        if self.broadcast_s <= self.broadcast_target_s:
            return []
        return [f"a broadcast took {self.broadcast_s:.2f} s, allowed are {self.broadcast_target_s:.2f} s"]

    def too_large(self) -> list[str]:
        """The target for memory."""
        if self.rss_kib <= KIB_TARGET or self.grown.connections < PER_CONNECTION_FROM:
            return []
        return [f"a connection has {self.rss_kib:.1f} KiB, allowed are {KIB_TARGET:g} KiB"]

    def excuse(self) -> str:
        """Why times cannot be judged: who took the CPU that the gateway would have needed; or nothing."""
        shares = self.delivering
        if shares is None:
            return ""
        if shares.disturbed:
            return f"other programs used {shares.others:.2f} of {shares.cores} cores"
        if shares.by_role["generators"] > shares.by_role["gateway"]:
            return (
                f"the generators used {shares.by_role['generators']:.2f} cores during the broadcasts, "
                f"the gateway {shares.by_role['gateway']:.2f}"
            )
        return ""

    def verdict(self) -> Verdict:
        """What the exit code says."""
        if self.failures() or self.too_large():
            return Verdict.FAILED
        if self.slow():
            return Verdict.NOT_JUDGED if self.excuse() else Verdict.FAILED
        return Verdict.PASSED

    def as_document(self) -> dict[str, Any]:
        """For a JSON file."""
        return dataclasses.asdict(self) | {
            "broadcast_s": self.broadcast_s,
            "cpu_us_per_delivery": self.cpu_us_per_delivery,
            "connections_per_s": self.grown.per_s,
            "verdict": self.verdict().name,
            "reasons": [*self.failures(), *self.too_large(), *self.slow()],
            "excuse": self.excuse(),
        }


PER_CONNECTION_FROM: Final = 5_000
"""With fewer connections, memory that a worker takes in larger pieces says nothing about one of them."""
