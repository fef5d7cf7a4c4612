"""What a run has seen, and the verdict on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from loadtest.faults.healing import Healed
from loadtest.faults.memory import Memory
from loadtest.faults.plan import Plan
from loadtest.faults.record import Record
from loadtest.faults.subscriber import Departure, Subscriber

EXAMPLES: Final = 5


@dataclass(slots=True)
class Totals:
    """Over all clients."""

    published: int = 0
    repeated: int = 0
    delivered: int = 0
    recovered: int = 0
    told: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    discarded: int = 0
    """Offsets at which a master delivered what its successor did not have, before it was told."""
    examples: list[str] = field(default_factory=list)
    """Some of what is lost."""

    @classmethod
    def of(cls, subscribers: Sequence[Subscriber], record: Record, repeated: int) -> Totals:
        """Add the ledgers up."""
        totals = cls(record.published, repeated, discarded=record.discarded)
        for subscriber in subscribers:
            for channel, subscription in subscriber.subscriptions.items():
                ledger = subscription.ledger
                totals.delivered += ledger.delivered
                totals.recovered += ledger.recovered
                totals.told += ledger.told
                lost = ledger.lost(record.accepted(channel))
                totals.lost += lost
                if lost and len(totals.examples) < EXAMPLES:
                    totals.examples.append(f"{subscriber.user} on {channel}: {ledger.describe()}")
                totals.doubled += ledger.doubled
                totals.out_of_order += ledger.out_of_order
        return totals


@dataclass(slots=True)
class Results:
    """Everything. `excused` and `departures` are connections that ended, by reason; those in `departures` must not
    have."""

    plan: Plan
    totals: Totals = field(default_factory=Totals)
    healed: list[Healed] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    departures: Counter[str] = field(default_factory=Counter)
    ghosts: Counter[str] = field(default_factory=Counter)
    """How the connections of vanished clients ended on the gateway's side."""
    notices: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    memory: Memory | None = None
    fell_behind: int = 0
    """Times that the gateway found a client too slow to push to."""

    def judge_departures(
        self, departures: Sequence[Departure], killed: str, fault: str, worker_of: dict[str, str]
    ) -> None:
        """Sort connections that ended: those of the worker `killed` during `fault` had to."""
        for each in departures:
            what = f"{each.code or ''} {each.reason}".strip()
            if each.fault == fault and worker_of.get(each.client_id) == killed:
                self.excused[f"worker killed: {what}"] += 1
            else:
                self.departures[f"during “{each.fault}”: {what}"] += 1

    def violations(self) -> list[str]:
        """One sentence for each requirement that is not met."""
        totals = self.totals
        found = [
            f"{name}: {count:,}"
            for name, count in (
                ("lost", totals.lost),
                ("doubled", totals.doubled),
                ("out of order", totals.out_of_order),
            )
            if count
        ]
        found += [f"disconnected {reason}: {count:,}" for reason, count in self.departures.items()]
        found += [f"{reason}: {count:,}" for reason, count in self.wrong.items()]
        found += [
            f"{each.unhealed:,} clients did not heal from “{each.fault}”: {'; '.join(each.states)}"
            for each in self.healed
            if each.unhealed
        ]
        if self.memory is not None and self.memory.growth > self.memory.bound_growth:
            found.append(
                f"a worker grew by {self.memory.growth / 2**20:.0f} MiB while clients did not read, "
                f"budgets allow {self.memory.bound_growth / 2**20:.0f} MiB"
            )
        return found

    def as_document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "plan": asdict(self.plan),
            **asdict(self.totals),
            "healing": [
                {
                    "fault": each.fault,
                    "clients": len(each.times_ms) + each.unhealed,
                    "p50_ms": each.p50_ms,
                    "max_ms": each.max_ms,
                    "unhealed": each.unhealed,
                }
                for each in self.healed
            ],
            "disconnected_rightly": dict(self.excused),
            "disconnected_wrongly": dict(self.departures),
            "vanished_ended_with": dict(self.ghosts),
            "told": dict(self.notices),
            "memory": None if self.memory is None else asdict(self.memory),
            "fell_behind": self.fell_behind,
            "violations": self.violations(),
        }
