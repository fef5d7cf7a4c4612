"""One run: gateway and generators, connections, rest, broadcasts. What it starts ends with it."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.messages import message
from loadtest.bench.publishing import WIDE
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.sources import RedisSource
from loadtest.bench.stages import Stages
from loadtest.scale.limits import read_limits
from loadtest.scale.plan import Plan
from loadtest.scale.results import Results, broadcast_of
from loadtest.scale.shares import CpuMeter, together
from loadtest.scale.site import Site, everywhere, started
from loadtest.scale.swarm import Swarm, free_memory

BROADCAST_DEADLINE_S: Final = 60.0
BROADCAST_CLIENTS_PER_S: Final = 5_000
"""On a machine that is busy with other things, too."""
SETTLE_S: Final = 3.0
"""After the last connection: what was left to do for it is done."""
STAGES: Final = 5
CHANNEL: Final = "scale"

CONFIG: Final = """\
[keepalive]
ping_interval_s = {ping_interval_s}
pong_timeout_s = {pong_timeout_s}
[log]
level = "warning"
"""
"""A line for each connection is what a log is for, but here it would be a million of them in a temporary folder."""


def run(plan: Plan, stages: Stages, command: str = DEFAULT_COMMAND) -> Results:
    """The whole run. Raises BenchError when it cannot be done."""
    raise_file_limit()
    results = Results(plan)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-scale-")))
        config = CONFIG.format(ping_interval_s=plan.ping_interval_s, pong_timeout_s=min(30.0, plan.ping_interval_s / 2))
        names = [f"{CHANNEL}-{number}" for number in range(plan.channels)]
        with stages.stage(f"starting Redis and a gateway with {plan.workers} workers"):
            site = stack.enter_context(
                started(
                    folder,
                    workers=plan.workers,
                    max_connections=plan.max_connections,
                    config=config,
                    command=command,
                    channels=names,
                )
            )
        with stages.stage(f"starting {plan.generators} generators, which sign {plan.connections:,} tokens"):
            swarm = stack.enter_context(Swarm.start(plan, site.target, everywhere(), folder))
        meter = CpuMeter({"gateway": site.edge_pids(), "generators": swarm.pids, "redis": [site.redis.process.pid]})
        _grow(results, site, swarm, meter, stages)
        _rest(results, swarm, meter, stages)
        if plan.broadcasts:
            with stages.stage(f"{plan.broadcasts} broadcasts to {results.grown.connections:,} clients"):
                _broadcast(results, site, swarm, meter)
        results.limits = read_limits(site.redis_path)
        state = swarm.ask("state")
        results.left = sum(each["connections"] for each in state)
        results.wrong = sorted({each["wrong"] for each in state if each["wrong"]})
        results.by_worker = site.by_worker("gateway_connections")
    return results


def _grow(results: Results, site: Site, swarm: Swarm, meter: CpuMeter, stages: Stages) -> None:
    plan = results.plan
    rss_kib, pss_kib = site.memory_kib()
    free = free_memory()
    results.idle_worker_mib = pss_kib / 1024 / plan.workers
    with stages.stage("opening connections", plan.connections) as progress:
        meter.begin()
        results.grown = swarm.grow(progress)
        results.opening = meter.end()
    count = results.grown.connections
    if not count:
        raise BenchError(f"nobody could connect: {results.grown.gave_way or dict(results.grown.refused)}")
    time.sleep(SETTLE_S)
    rss_after_kib, pss_after_kib = site.memory_kib()
    results.rss_kib = (rss_after_kib - rss_kib) / count
    results.pss_kib = (pss_after_kib - pss_kib) / count
    results.machine_kib = (free - free_memory()) / 1024 / count


def _rest(results: Results, swarm: Swarm, meter: CpuMeter, stages: Stages) -> None:
    rest_s = results.plan.rest_s
    if rest_s:
        with stages.stage(f"at rest for {rest_s:g} s"):
            meter.begin()
            time.sleep(rest_s)
            results.rest = meter.end()
            swarm.ask("state")


def _broadcast(results: Results, site: Site, swarm: Swarm, meter: CpuMeter) -> None:
    """The messages one after another, each once everybody has the last one; while they are on their way, the CPU is
    taken."""
    source = RedisSource(site.redis_path, site.target["channels"])
    deadline_s = max(BROADCAST_DEADLINE_S, results.grown.connections / BROADCAST_CLIENTS_PER_S)
    used = []
    try:
        for sequence in range(results.plan.broadcasts):
            time.sleep(results.plan.pause_s if sequence else 0.0)
            before = [each["received"] for each in swarm.ask("listen")]
            held = [each["connections"] for each in swarm.ask("state")]
            meter.begin()
            begin_ns = time.monotonic_ns()
            one = message(begin_ns, sequence, WIDE)
            for channel in range(len(site.target["channels"])):
                source.publish([one], channel)
            orders = [
                {"received": received + connections, "deadline_s": deadline_s}
                for received, connections in zip(before, held, strict=True)
            ]
            heard = swarm.ask_each("hear", orders)
            used.append(meter.end())
            results.broadcasts.append(broadcast_of(sum(held), (each["times_ms"] for each in heard)))
        results.delivering = together(used)
        source.read_answers()
    finally:
        source.close()
