"""The generator watches itself: its CPU and the lag of its own loop. When it is the bottleneck, it does not judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from loadtest.bench.stats import percentile

INTERVAL_S: Final = 0.05
MAX_CPU: Final = 0.9
"""Of a core. A process of Locust has one thread: past that, users wait for each other."""
MAX_LAG_MS: Final = 50
"""95th percentile: four times that is what the strictest threshold allows for a whole round trip."""
SAMPLES_KEPT: Final = 20_000


@dataclass(slots=True)
class Health:
    """One process. `cpu` in cores over the whole run; lags in ms, ascending only in `lag_ms`."""

    process: str = ""
    cpu: float = 0.0
    lags_ms: list[int] = field(default_factory=list)

    @property
    def lag_ms(self) -> int:
        """95th percentile of the lag."""
        return percentile(sorted(self.lags_ms), 95) if self.lags_ms else 0

    def excuse(self) -> str:
        """Why this process cannot judge, or nothing."""
        if self.cpu > MAX_CPU:
            return f"{self.process}: the generator used {self.cpu:.2f} of a core"
        if self.lag_ms > MAX_LAG_MS:
            return f"{self.process}: the generator's own loop was late by {self.lag_ms} ms (p95)"
        return ""


class Watch:
    """Measures its own process, from `run` on."""

    def __init__(
        self, process: str, clock: Callable[[], float], cpu_s: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self.health = Health(process)
        self._clock, self._cpu_s, self._sleep = clock, cpu_s, sleep

    def run(self) -> None:
        """Measure for ever, in a greenlet."""
        begin, used_s = self._clock(), self._cpu_s()
        while True:
            due = self._clock() + INTERVAL_S
            self._sleep(INTERVAL_S)
            now = self._clock()
            if len(self.health.lags_ms) < SAMPLES_KEPT:
                self.health.lags_ms.append(max(0, round(1000 * (now - due))))
            self.health.cpu = (self._cpu_s() - used_s) / (now - begin)
