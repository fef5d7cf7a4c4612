"""Side by side: every server with its own generator, all of them up, measured in alternating rounds."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from loadtest.bench.errors import AbsentError, BenchError
from loadtest.bench.link import Link
from loadtest.bench.plan import Plan
from loadtest.bench.results import CostSample, LatencySample, Measured
from loadtest.bench.servers import gateway
from loadtest.bench.servers.registry import Starter
from loadtest.bench.servers.server import Server, Surroundings
from loadtest.bench.stages import Stages
from loadtest.bench.usage import rss_kib, steady_rss_kib

MIN_ROUNDS = 2


@dataclass(slots=True)
class Lane:
    """One server, its generator, and what has been measured."""

    server: Server
    link: Link
    measured: Measured
    pids: list[int]


class SideBySide:
    """Opens the lanes and runs the rounds. `absent` says, by server, why there is no row."""

    def __init__(self, plan: Plan, around: Surroundings, stages: Stages) -> None:
        self._plan = plan
        self._around = around
        self._stages = stages
        self.lanes: list[Lane] = []
        self.absent: dict[str, str] = {}

    def open(self, name: str, start: Starter, stack: ExitStack) -> None:
        """Start a server and its generator, and open its connections. `stack` stops both."""
        try:
            with self._stages.stage(f"{name}: starting"):
                server = start(self._around)
                stack.callback(server.stop)
                link = Link.start(name, self._around.cores.client, self._around.folder)
                stack.callback(link.stop)
                link.ask("setup", **server.target)
            pids = server.pids
            if self._plan.whole_tree:
                steady_rss_kib(server.tree())  # other processes than the one that is ready may still be starting
                pids = server.tree()
            self.lanes.append(Lane(server, link, self._connect(server, link, pids), pids))
        except AbsentError as error:
            self.drop(name, str(error))
        except BenchError as error:
            self.drop(name, f"failed: {error}")

    def run_rounds(self) -> None:
        """Measure every lane in every round, one after the other. A lane that fails is dropped. On a busy machine
        there are fewer rounds than planned, at least two."""
        begin, last_s = time.monotonic(), 0.0
        for number in range(1, self._plan.rounds + 1):
            round_begin = time.monotonic()
            if number > MIN_ROUNDS and round_begin - begin + last_s > self._plan.rounds_s:
                self._stages.say(f"  {number - 1} of {self._plan.rounds} rounds: the time for them is over")
                return
            for lane in list(self.lanes):
                name = lane.server.name
                try:
                    with self._stages.stage(f"round {number} of {self._plan.rounds}: {name}"):
                        if number <= self._plan.reopen_rounds:
                            self._reopen(lane)
                        self._measure_cost(lane, number)
                        if number <= self._plan.latency_rounds:
                            self._measure_latency(lane)
                except BenchError as error:
                    self.lanes.remove(lane)
                    self.drop(name, f"failed: {error}")
            last_s = time.monotonic() - round_begin

    def _connect(self, server: Server, link: Link, pids: list[int]) -> Measured:
        plan, before_kib = self._plan, rss_kib(pids)
        with self._stages.stage(f"{server.name}: opening connections", plan.connections) as progress:
            opened = link.ask("open", progress, count=plan.connections, in_flight=plan.in_flight)
        check_served(opened)
        with self._stages.stage(f"{server.name}: settling"):
            settled = link.ask("settle", duration_s=plan.settle_s)
        if settled["wrong"]:
            raise BenchError(settled["wrong"])
        if server.name in ("gateway", gateway.UNMETERED):
            gateway.check_measured(server)
        count, elapsed_s = opened["connections"], opened["elapsed_s"]
        measured = Measured(
            server=server.name,
            connections=count,
            handshakes_per_s=count / elapsed_s,
            handshake_client_share=opened["client_cpu_s"] / elapsed_s,
            rss_kib_per_connection=(rss_kib(pids) - before_kib) / count,
            empty_kib=before_kib,
        )
        if plan.cost_connections:
            self._shrink(link, plan.cost_connections)
        return measured

    def _shrink(self, link: Link, keep: int) -> None:
        link.ask("shrink", keep=keep)
        link.ask("settle", duration_s=self._plan.settle_s)

    def _reopen(self, lane: Lane) -> None:
        plan = self._plan
        opened = lane.link.ask("open", count=plan.reopen_connections, in_flight=plan.in_flight)
        check_served(opened)
        lane.measured.reopened_per_s.append(opened["connections"] / opened["elapsed_s"])
        self._shrink(lane.link, plan.cost_connections)

    def _measure_cost(self, lane: Lane, round_number: int) -> None:
        plan, ask = self._plan, lane.link.ask
        for messages in plan.passes:
            if messages >= plan.heavy_pass and round_number > plan.heavy_rounds:
                continue
            cost = ask(
                "cost",
                messages=messages,
                min_cpu_s=plan.cost_cpu_s,
                max_wall_s=plan.cost_wall_s,
                pids=lane.pids,
                warm_up=0 if messages >= plan.heavy_pass else 1,
            )
            cpu_us = cost["total_s"] * 1e6 / cost["deliveries"]
            sampled_s = cost["user_s"] + cost["system_s"]
            user_us = cpu_us * cost["user_s"] / sampled_s if sampled_s else 0.0
            lane.measured.costs.setdefault(messages, []).append(CostSample(user_us, cpu_us, cost["client_share"]))

    def _measure_latency(self, lane: Lane) -> None:
        plan, ask = self._plan, lane.link.ask
        for messages, times, per_s in ((1, plan.rate_messages, plan.rate_per_s), (10, plan.bursts, 0.0)):
            seen = ask("latency", messages=messages, times=times, per_s=per_s)
            sample = LatencySample(seen["p50_ms"], seen["p99_ms"], seen["p999_ms"])
            lane.measured.latencies.setdefault(messages, []).append(sample)

    def drop(self, name: str, reason: str) -> None:
        """There will be no row for `name`, and why."""
        self.absent[name] = reason
        self._stages.say(f"  [yellow]no row for {name}[/]: {reason}")


def check_served(opened: dict[str, Any]) -> None:
    """Raise `BenchError` when clients were refused while opening."""
    refused: dict[str, int] = opened["refused"]
    if refused:
        reason, count = max(refused.items(), key=lambda item: item[1])
        raise BenchError(f"{sum(refused.values()):,} clients were not served; {count:,}× {reason}")
