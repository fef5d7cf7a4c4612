"""The scenarios, each from a calm gateway to a calm gateway."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.messages import message
from loadtest.bench.publishing import WIDE
from loadtest.bench.sources import RedisSource
from loadtest.bench.stats import percentile
from loadtest.idle.prober import Prober
from loadtest.scale.plan import Plan
from loadtest.scale.site import Site, SiteMeter
from loadtest.scale.swarm import Swarm
from loadtest.storm.results import (
    BACK_S,
    EXPECTED,
    PROBE_P99_MS,
    RELOAD_BACK_S,
    STORM_S_PER_1000,
    Scenario,
    judge_broadcasts,
)

PROBE_S: Final = 0.01
HEAL_DEADLINE_S: Final = 120.0
CALM_S: Final = 2.0
RELOAD_DEADLINE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is done in the scenarios beside their clients."""

    churn_per_s: float = 300.0
    churn_s: float = 12.0
    messages_per_s: float = 2.0


class Scenarios:
    """Runs them on one site."""

    def __init__(self, plan: Plan, sizes: Sizes, site: Site, swarm: Swarm, others: Sequence[int] = ()) -> None:
        """`others`: processes that generate load, too."""
        self._others = others
        self._plan = plan
        self._sizes = sizes
        self._site = site
        self._swarm = swarm

    def all(self) -> list[tuple[str, Callable[[Scenario], None]]]:
        """Name and work of each, in order."""
        return [
            (f"{self._plan.connections:,} clients at once", self.storm),
            ("a worker killed", self.kill),
            ("broadcasts under churn", self.churn),
            ("rolling reload", self.reload),
        ]

    def storm(self, scenario: Scenario) -> None:
        """All come at once; one is there already and asks how long a ping takes."""
        target = self._site.target
        prober = Prober(target["host"], target["port"], target["path"], target["secret"], PROBE_S)
        prober.start()
        try:
            with self._measured(scenario):
                grown = self._swarm.grow(lambda _done: None, in_flight=self._plan.batch)
        except BaseException:
            prober.close()
            raise
        took = sorted(prober.stop())
        count = self._plan.connections
        scenario.generator_cpu = grown.client_cpu_s / max(grown.elapsed_s, 0.001) / self._plan.generators
        scenario.figures["clients"] = f"{grown.connections:,}"
        scenario.figures["clients/s"] = f"{grown.per_s:,.0f}"
        scenario.limit("all are in after", grown.elapsed_s, max(5.0, STORM_S_PER_1000 * count / 1000), "s")
        scenario.limit("p99 of a ping meanwhile", percentile(took, 99) / 1e6, PROBE_P99_MS, "ms")
        scenario.refused([grown.refused])
        if grown.connections < count:
            scenario.lost.append(f"{scenario.name}: {grown.connections:,} are connected")
        scenario.unexpected(self._forget())

    def kill(self, scenario: Scenario) -> None:
        """The worker that has been there longest dies; its clients come back to the other one, and to its successor."""
        before = self._site.edge_pids()
        with self._measured(scenario):
            os.kill(before[0], signal.SIGKILL)
            self._heal(scenario, 1, BACK_S, EXPECTED[1:])
        self._wait_workers(lambda pids: before[0] not in pids and len(pids) == len(before))

    def churn(self, scenario: Scenario) -> None:
        """Messages to everybody, while some go and others come."""
        sizes, sent = self._sizes, threading.Event()
        self._swarm.ask("listen")
        published = 0
        source = RedisSource(self._site.redis_path, self._site.target["channels"])

        def publish() -> None:
            nonlocal published
            while not sent.wait(1 / sizes.messages_per_s):
                source.publish([message(time.monotonic_ns(), published, WIDE)], 0)
                published += 1

        publishing = threading.Thread(target=publish, daemon=True)
        publishing.start()
        try:
            with self._measured(scenario):
                each = sizes.churn_per_s / self._plan.generators
                churned = self._swarm.ask("churn", per_s=each, duration_s=sizes.churn_s)
        finally:
            sent.set()
            publishing.join()
        heard = self._swarm.ask("hear", received=1 << 60, deadline_s=CALM_S)
        source.close()
        scenario.figures["messages"] = f"{published:,}"
        scenario.figures["clients that came and went"] = f"{sum(one['churned'] for one in churned):,}"
        scenario.generator_cpu = max(one["cpu"] for one in churned)
        judge_broadcasts(scenario, 0, [one["times_ms"] for one in heard])
        scenario.refused(one["refused"] for one in churned)
        scenario.unexpected([*(one["wrong"] for one in churned), *self._forget()])

    def reload(self, scenario: Scenario) -> None:
        """SIGHUP: every worker is replaced, its clients are told to come back."""
        before = set(self._site.edge_pids())
        with self._measured(scenario):
            os.kill(self._site.supervisor, signal.SIGHUP)
            self._heal(scenario, self._plan.connections // self._plan.generators, RELOAD_BACK_S, EXPECTED[:1])
        self._wait_workers(lambda pids: not before & set(pids) and len(pids) == len(before))

    def _heal(self, scenario: Scenario, lost: int, most_s: float, expected: tuple[str, ...]) -> None:
        shares = self._plan.shares()
        orders = [
            {"wanted": share, "lost": min(share, lost), "calm_s": CALM_S, "deadline_s": HEAL_DEADLINE_S}
            for share in shares
        ]
        healed = self._swarm.ask_each("heal", orders)
        thrown = sum(one["thrown_out"] for one in healed)
        scenario.figures["clients thrown out"] = f"{thrown:,}"
        scenario.generator_cpu = max(one["cpu"] for one in healed)
        scenario.limit("all are back after", max(one["back_s"] for one in healed), most_s, "s")
        scenario.refused(one["refused"] for one in healed)
        scenario.unexpected((one["wrong"] for one in healed), expected)
        away = sum(shares) - sum(one["connections"] for one in healed)
        if away:
            scenario.lost.append(f"{scenario.name}: {away:,} clients did not come back")
        if not thrown:
            scenario.lost.append(f"{scenario.name}: nobody was thrown out")

    def _forget(self) -> list[dict[str, int]]:
        return [one["wrong"] for one in self._swarm.ask("forget")]

    @contextmanager
    def _measured(self, scenario: Scenario) -> Iterator[None]:
        meter = SiteMeter(self._site, [*self._swarm.pids, *self._others])
        meter.begin()
        yield
        scenario.shares = meter.end()

    def _wait_workers(self, there: Callable[[list[int]], bool]) -> None:
        """Wait until the workers are what they should be, and serve. Raises BenchError."""
        until = time.monotonic() + RELOAD_DEADLINE_S
        while not there(self._site.edge_pids()):
            if time.monotonic() > until:
                raise BenchError(f"the workers were not replaced within {RELOAD_DEADLINE_S:.0f} s")
            time.sleep(0.2)
