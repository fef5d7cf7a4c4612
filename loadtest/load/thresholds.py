"""What is demanded of each kind of request, and what a run says to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of one kind of request. Times in ms."""

    requests: int
    failures: int
    average_ms: float
    p95_ms: float

    @property
    def success_percent(self) -> float:
        """0 without requests: what was never done has not succeeded."""
        return 100 * (self.requests - self.failures) / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """Demands; a time of 0 is none. `min_success` in per cent must be exceeded, unless it is 100."""

    min_success: float
    p95_ms: float = 0.0
    average_ms: float = 0.0


THRESHOLDS: Final[Mapping[str, Threshold]] = {
    "API": Threshold(95, p95_ms=200, average_ms=100),
    "connect": Threshold(99, p95_ms=1000),
    "subscribe": Threshold(99, p95_ms=500),
    "subscribe to 100": Threshold(99, p95_ms=1000),
    "publish": Threshold(99, p95_ms=200),
    "delivery": Threshold(100, p95_ms=200),
    "recovery": Threshold(100, p95_ms=1000),
    "slow reader catches up": Threshold(100),
    "token stream": Threshold(100),
    "first snapshot": Threshold(99, p95_ms=500),
    "connection": Threshold(100),
}
"""By the name of the request. `connection` counts those that ended though nobody wanted it: its successes are the
connections that users ended themselves."""


def lost(figures: Mapping[str, Figures], wanted: Iterable[str]) -> list[str]:
    """What went wrong, a line each: successes. No machine is an excuse for it."""
    found = []
    for name in wanted:
        seen, demand = figures.get(name, Figures(0, 0, 0.0, 0.0)), THRESHOLDS[name]
        success = seen.success_percent
        if success < 100 and (success <= demand.min_success or demand.min_success == 100):
            how = f"{seen.failures:,} of {seen.requests:,} failed" if seen.requests else "there was none"
            least = "100 %" if demand.min_success == 100 else f"above {demand.min_success:g} %"
            found.append(f"{name}: {how}, success must be {least}")
    return found


def late(figures: Mapping[str, Figures], wanted: Iterable[str]) -> list[str]:
    """Times that were too long, a line each. They say something about the gateway only if the generator had time."""
    found = []
    for name in wanted:
        seen, demand = figures.get(name), THRESHOLDS[name]
        if seen is None or not seen.requests:
            continue
        if demand.p95_ms and seen.p95_ms >= demand.p95_ms:
            found.append(f"{name}: p95 {seen.p95_ms:,.0f} ms, must be below {demand.p95_ms:g} ms")
        if demand.average_ms and seen.average_ms >= demand.average_ms:
            found.append(f"{name}: average {seen.average_ms:,.0f} ms, must be below {demand.average_ms:g} ms")
    return found
