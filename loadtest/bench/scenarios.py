"""What only the gateway is asked: a storm of clients, a quiet channel beside a wide one, the spread over workers."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from loadtest.bench.errors import BenchError
from loadtest.bench.link import Link
from loadtest.bench.plan import Plan
from loadtest.bench.processes import open_files
from loadtest.bench.publishing import QUIET, WIDE
from loadtest.bench.results import GatewayScenarios, Interference, Storm
from loadtest.bench.servers import gateway
from loadtest.bench.servers.server import Server, Surroundings
from loadtest.bench.stages import Stages

SPARE_FILES = 8
"""Descriptors that a worker may hold after its clients have gone, beyond those that it held before."""
GONE_DEADLINE_S = 20.0


def run_scenarios(plan: Plan, around: Surroundings, command: str, stages: Stages) -> GatewayScenarios:
    """Run all of them, on gateways of their own. One that fails is said and left out."""
    result = GatewayScenarios()
    for scenario in (partial(_storms_and_quiet, result), partial(_spread, result)):
        try:
            with ExitStack() as stack:
                scenario(plan, around, command, stages, stack)
        except BenchError as error:
            stages.say(f"  [yellow]gateway scenario failed[/]: {error}")
    return result


def _storms_and_quiet(
    result: GatewayScenarios, plan: Plan, around: Surroundings, command: str, stages: Stages, stack: ExitStack
) -> None:
    with stages.stage("gateway: starting, for the storm"):
        server, link = _start(around, command, 1, stages, stack)
    for number in range(1, plan.storms + 1):
        with stages.stage(f"gateway: storm {number} of {plan.storms}", plan.storm_connections) as progress:
            before = open_files(server.pids[0])
            opened = link.ask("open", progress, count=plan.storm_connections, in_flight=plan.storm_connections)
            settled = link.ask("settle", duration_s=plan.settle_s)
        reasons = [f"{count:,}× {reason}" for reason, count in opened["refused"].items()] + [settled["wrong"]]
        result.storms.append(
            Storm(
                clients=plan.storm_connections,
                elapsed_s=opened["elapsed_s"],
                lost=plan.storm_connections - settled["connections"],
                reasons="; ".join(filter(None, reasons)),
                client_share=opened["client_cpu_s"] / opened["elapsed_s"],
            )
        )
        if number < plan.storms:
            with stages.stage("gateway: clients leave"):
                link.ask("close")
                _wait_gone(server, before)
    gateway.check_measured(server)
    with stages.stage(f"gateway: a quiet channel beside {plan.storm_connections:,} subscribers"):
        link.ask("open", count=plan.quiet_connections, in_flight=plan.in_flight, group=QUIET)
        seen = link.ask("interference", quiet_interval_s=plan.quiet_interval_s, duration_s=plan.interference_s)
    result.interference = Interference(
        wide_connections=settled["connections"],
        wide_passes=seen["wide_passes"],
        samples=seen["samples"],
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        max_ms=seen["max_ms"],
        client_share=seen["client_share"],
    )


def _spread(
    result: GatewayScenarios, plan: Plan, around: Surroundings, command: str, stages: Stages, stack: ExitStack
) -> None:
    with stages.stage(f"gateway: spread over {plan.spread_workers} workers", plan.spread_connections) as progress:
        server, link = _start(around, command, plan.spread_workers, stages, stack)
        link.ask("open", progress, count=plan.spread_connections, in_flight=plan.in_flight, group=WIDE)
        held = sorted(gateway.connections_by_worker(server).values(), reverse=True)
    result.spread = held + [0] * (plan.spread_workers - len(held))


def _start(around: Surroundings, command: str, workers: int, stages: Stages, stack: ExitStack) -> tuple[Server, Link]:
    server = gateway.start(around, command, workers)
    stack.callback(_stop, server, stages)
    link = Link.start(f"gateway-{server.target['port']}", around.cores.client, around.folder)
    stack.callback(link.stop)
    link.ask("setup", **server.target)
    return server, link


def _stop(server: Server, stages: Stages) -> None:
    code = server.stop()
    if code:
        stages.say(
            f"  [yellow]gateway ended with exit code {code} after SIGTERM, 0 was expected[/]{server.child.last_words()}"
        )


def _wait_gone(server: Server, files_before: int) -> None:
    until = time.monotonic() + GONE_DEADLINE_S
    while (held := open_files(server.pids[0])) > files_before + SPARE_FILES:
        if time.monotonic() > until:
            raise BenchError(f"{held - files_before:,} connections are still held {GONE_DEADLINE_S:.0f} s after reset")
        time.sleep(0.05)
