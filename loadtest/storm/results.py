"""What each scenario has found, and what is demanded of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from loadtest.load.locust import Outcome
from loadtest.scale.results import Verdict, broadcast_of
from loadtest.scale.shares import Shares

STORM_S_PER_1000: Final = 1.0
"""Ten thousand clients are in within ten seconds: gateway, Redis and generator on two cores."""
PROBE_P99_MS: Final = 200.0
"""A connection that is there already, while all the others come."""
BACK_S: Final = 15.0
"""From the first client that a killed worker has thrown out until the last one is back."""
RELOAD_BACK_S: Final = 30.0
"""The same for a rolling reload, in which the workers leave one after the other."""
BROADCAST_P99_MS: Final = 1000
GENERATOR_CPU: Final = 0.9
"""Of a core: a generator is one thread."""
EXPECTED: Final = ("closed by the server with code 3001", "connection lost", "connection closed without")
"""How clients are thrown out by a reload, or by the death of a worker."""


@dataclass(slots=True)
class Scenario:
    """One scenario. `lost` are things that must not happen on any machine, `late` are times."""

    name: str
    figures: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    shares: Shares | None = None
    generator_cpu: float = 0.0
    """Of the busiest generator process, in cores."""

    def limit(self, what: str, value: float, most: float, unit: str) -> None:
        """A time that must not be longer."""
        self.figures[what] = f"{value:,.1f} {unit} (≤ {most:,.1f})"
        if value > most:
            self.late.append(f"{self.name}: {what} {value:,.1f} {unit}, allowed are {most:,.1f}")

    def refused(self, reasons: Iterable[Mapping[str, int]]) -> None:
        """Clients that were not served."""
        total: Counter[str] = Counter()
        for each in reasons:
            total.update(each)
        if total:
            reason, count = total.most_common(1)[0]
            self.lost.append(f"{self.name}: {total.total():,} clients were refused, {count:,} of them: {reason}")

    def unexpected(self, wrong: Iterable[Mapping[str, int]], expected: Sequence[str] = ()) -> None:
        """What went wrong on connections, but for what belongs to the scenario."""
        total: Counter[str] = Counter()
        for each in wrong:
            total.update({what: count for what, count in each.items() if not what.startswith(tuple(expected))})
        self.lost += [f"{self.name}: {count:,} × {what}" for what, count in total.most_common(3)]

    def excuse(self) -> str:
        """Why its times cannot be judged, or nothing."""
        if self.generator_cpu > GENERATOR_CPU:
            return f"{self.name}: a generator used {self.generator_cpu:.2f} of a core"
        if self.shares is not None and self.shares.disturbed:
            return f"{self.name}: other programs used {self.shares.others:.2f} of {self.shares.cores} cores"
        return ""


def judge_broadcasts(scenario: Scenario, expected: int, heard: Sequence[Sequence[Sequence[int]]]) -> None:
    """Deliveries while clients come and go: those who stayed have all, which their connections check themselves."""
    seen = broadcast_of(expected, heard)
    scenario.figures["deliveries"] = f"{seen.received:,}"
    scenario.limit("p99 of deliveries", seen.p99_ms, BROADCAST_P99_MS, "ms")
    if not seen.received:
        scenario.lost.append(f"{scenario.name}: nothing was delivered")


@dataclass(slots=True)
class Results:
    """All scenarios, and what Locust's users say."""

    scenarios: list[Scenario] = field(default_factory=list)
    sample: Outcome | None = None

    def lost(self) -> list[str]:
        """What must not happen."""
        found = [line for each in self.scenarios for line in each.lost]
        return found + [f"sample: {line}" for line in (self.sample.lost if self.sample else [])]

    def late(self) -> list[tuple[str, str]]:
        """Times that were too long, each with the excuse, if there is one."""
        found = [(line, each.excuse()) for each in self.scenarios for line in each.late]
        if self.sample:
            excuse = self.sample.excuse or next(filter(None, (each.excuse() for each in self.scenarios)), "")
            found += [(f"sample: {line}", excuse) for line in self.sample.late]
        return found

    def verdict(self) -> Verdict:
        """What the exit code says."""
        late = self.late()
        if self.lost() or any(not excuse for _, excuse in late):
            return Verdict.FAILED
        return Verdict.NOT_JUDGED if late else Verdict.PASSED

    def as_rows(self) -> list[dict[str, Any]]:
        """For a CSV file: a row a figure."""
        rows = [
            {"scenario": each.name, "figure": what, "value": value}
            for each in self.scenarios
            for what, value in each.figures.items()
        ]
        return rows + [
            {"scenario": "verdict", "figure": self.verdict().name, "value": line} for line in self._reasons()
        ]

    def _reasons(self) -> list[str]:
        return [*self.lost(), *(line for line, _ in self.late())] or ["nothing was lost or late"]
