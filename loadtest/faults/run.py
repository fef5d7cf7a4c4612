"""One run: Redis, gateway, clients, publisher, faults, results. Everything it starts ends with it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import HOST, NAMESPACE, PATH, Gateway
from loadtest.faults.plan import CHANNELS_PER_CLIENT, Plan
from loadtest.faults.publisher import Publisher, PublishScript, client_of
from loadtest.faults.record import Record
from loadtest.faults.redis_server import RedisServer
from loadtest.faults.results import Results, Totals
from loadtest.faults.scenario import KILLED_WORKER, Scenario
from loadtest.faults.subscriber import Subscriber, Surroundings

STAGES: Final = 29
SLEEPERS_RECEIVE_BYTES: Final = 16_384
"""What the kernel takes for a client that does not read."""
OPENING_DEADLINE_S: Final = 60.0
AT_ONCE: Final = 50
"""Clients that connect at the same time."""


async def run(plan: Plan, command: str, stages: Stages) -> Results:
    """Run all faults. Raises BenchError when that is not possible."""
    raise_file_limit()
    script = PublishScript.read()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-faults-")))
        stack.enter_context(stages.shown(STAGES + plan.cuts))
        with stages.stage("starting Redis and the gateway"):
            redis = RedisServer(folder)
            stack.callback(redis.stop)
            redis.start()
            gateway = await asyncio.to_thread(Gateway.start, command, plan, redis.url, folder)
            stack.callback(gateway.stop)
        results = await _run(plan, stages, script, redis, gateway)
        with stages.stage("stopping the gateway"):
            code = await asyncio.to_thread(gateway.stop)
        if code:
            results.wrong[f"the gateway ended with exit code {code} after SIGTERM"] += 1
    return results


async def _run(plan: Plan, stages: Stages, script: PublishScript, redis: RedisServer, gateway: Gateway) -> Results:
    record = Record()
    around = Surroundings(HOST, gateway.port, PATH, gateway.token, record)
    channels = [f"{NAMESPACE}:{number}" for number in range(plan.channels)]
    async with AsyncExitStack() as stack:
        subscribers = []
        for index in range(plan.clients):
            names = [channels[(index + step) % plan.channels] for step in range(CHANNELS_PER_CLIENT)]
            sleeps = index % plan.channels == 0
            subscribers.append(Subscriber(f"user-{index}", names, around, SLEEPERS_RECEIVE_BYTES if sleeps else 0))
            stack.callback(subscribers[-1].close)
        await connect(subscribers, around, stages)
        watch = asyncio.create_task(watch_pings(subscribers))
        stack.callback(watch.cancel)
        publisher = Publisher(
            script, partial(client_of, redis.port), channels, plan.rate_per_s, plan.payload_bytes, record
        )
        stack.push_async_callback(publisher.aclose)
        publisher.start()
        scenario = Scenario(plan, stages, redis, gateway, publisher, subscribers, around)
        await scenario.run()
        results = scenario.results
        record.compare()
        results.totals = Totals.of(subscribers, record, publisher.repeated)
        results.judge_departures(around.departures, scenario.killed, KILLED_WORKER, gateway.worker_of())
        results.notices = around.notices
        results.wrong += record.wrong
        for line in gateway.complaints():
            if line.get("event") != "worker ended" or line.get("worker") != scenario.killed:
                results.wrong[f"the gateway logged an error: {str(line)[:200]}"] += 1
    return results


async def connect(subscribers: list[Subscriber], around: Surroundings, stages: Stages) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + OPENING_DEADLINE_S
    with stages.stage(f"{len(subscribers):,} clients connect", len(subscribers)) as progress:
        started = 0
        while (live := sum(each.live for each in subscribers)) < len(subscribers):
            for subscriber in subscribers[started : live + AT_ONCE]:
                subscriber.start()
            started = max(started, min(len(subscribers), live + AT_ONCE))
            progress(live)
            if loop.time() > until:
                why = "; ".join(f"{what} ({count}×)" for what, count in (around.notices + around.record.wrong).items())
                raise BenchError(f"only {live:,} of {len(subscribers):,} clients could connect and subscribe: {why}")
            await asyncio.sleep(0.02)


async def watch_pings(subscribers: list[Subscriber]) -> None:
    while True:
        await asyncio.sleep(1.0)
        for subscriber in subscribers:
            subscriber.check_ping()
