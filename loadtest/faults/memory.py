"""Resident memory of the workers while clients hang, against what their budgets allow.

A client that does not read may cost its send budget, twice because the write that used it up may be as large, and a
page of the log that waits to be written to it. Everything else is shared: the queue of a channel, its newest page in
memory. What grows with the time that clients do not read breaks this bound within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from loadtest.faults.plan import Plan

PAGE_BYTES = 512 * 1024
SHARED_BYTES = 24 * 2**20
"""Queues and pages in memory of the busy channels, and what the allocator keeps."""
MIB = 2**20


@dataclass(slots=True)
class Memory:
    """Bytes by worker: before clients stopped reading, and the most that was seen until they had caught up."""

    bound_growth: int
    before: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, asleep: int) -> Memory:
        """For `asleep` clients that hang, at worst all on one worker."""
        return cls(asleep * (2 * plan.send_budget_bytes + PAGE_BYTES) + SHARED_BYTES)

    def sample(self, rss_bytes: dict[str, int]) -> None:
        """The first sample of a worker is what it had before."""
        for worker, held in rss_bytes.items():
            self.before.setdefault(worker, held)
            self.most[worker] = max(self.most.get(worker, 0), held)

    @property
    def growth(self) -> int:
        """Of the worker that grew most."""
        return max((most - self.before[worker] for worker, most in self.most.items()), default=0)
