"""One run: Redis servers, two gateways, clients, publisher, faults, results. Everything it starts ends with it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from loadtest.bench.generator import raise_file_limit
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import HOST, NAMESPACE, PATH, Gateway
from loadtest.faults.plan import CHANNELS_PER_CLIENT, Plan
from loadtest.faults.publisher import PREFIX, Publisher
from loadtest.faults.record import Record
from loadtest.faults.results import Results, Totals
from loadtest.faults.run import connect, watch_pings
from loadtest.faults.subscriber import Subscriber, Surroundings
from loadtest.fleet.cluster import ClusterFleet
from loadtest.fleet.publishing import Masters, RedisFleet, ReplicatedScript
from loadtest.fleet.scenario import FleetScenario
from loadtest.fleet.sentinels import SentinelFleet
from protocol.redis_contract import ClusterPrefix

GATEWAYS: Final = 2
STAGES: Final = 20
REPLICAS: Final = 2
"""Of each master: what one of them must have before it counts can go on while the master is away."""
FLEETS: Final[dict[str, type[RedisFleet]]] = {"sentinel": SentinelFleet, "cluster": ClusterFleet}


async def run(kind: str, plan: Plan, command: str, stages: Stages) -> tuple[Results, int]:
    """Run all faults on a fleet of that kind; also how many channels may have lost something, as the gateways say.

    Raises BenchError when that is not possible.
    """
    raise_file_limit()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-fleet-")))
        stack.enter_context(stages.shown(STAGES))
        fleet = FLEETS[kind](folder, replicas=REPLICAS)
        stack.callback(fleet.close)
        with stages.stage(f"starting Redis ({kind})"):
            await asyncio.to_thread(fleet.start)
        gateways = []
        with stages.stage("starting the gateways"):
            for number in range(GATEWAYS):
                own = folder / f"gateway-{number}"
                own.mkdir()
                gateway = await asyncio.to_thread(Gateway.start, command, plan, fleet.url, own)
                stack.callback(gateway.stop)
                gateways.append(gateway)
        results, possible_losses = await _run(kind, plan, stages, fleet, gateways)
        with stages.stage("stopping the gateways"):
            codes = [await asyncio.to_thread(gateway.stop) for gateway in gateways]
        for code in filter(None, codes):
            results.wrong[f"a gateway ended with exit code {code} after SIGTERM"] += 1
    return results, possible_losses


async def _run(
    kind: str, plan: Plan, stages: Stages, fleet: RedisFleet, gateways: list[Gateway]
) -> tuple[Results, int]:
    record = Record()
    first = Surroundings(HOST, gateways[0].port, PATH, gateways[0].token, record)
    around = [replace(first, port=each.port, token=each.token) for each in gateways]
    channels = [f"{NAMESPACE}:{number}" for number in range(plan.channels)]
    async with AsyncExitStack() as stack:
        subscribers = []
        for index in range(plan.clients):
            names = [channels[(index + step) % plan.channels] for step in range(CHANNELS_PER_CLIENT)]
            subscribers.append(Subscriber(f"user-{index}", names, around[index // 2 % GATEWAYS]))
            stack.callback(subscribers[-1].close)
        await connect(subscribers, first, stages)
        watch = asyncio.create_task(watch_pings(subscribers))
        stack.callback(watch.cancel)
        script = ReplicatedScript.read(prefix=ClusterPrefix(PREFIX) if kind == "cluster" else PREFIX)
        publisher = Publisher(script, partial(Masters, fleet), channels, plan.rate_per_s, plan.payload_bytes, record)
        stack.push_async_callback(publisher.aclose)
        publisher.start()
        scenario = FleetScenario(plan, stages, fleet, gateways, publisher, subscribers, around)
        await scenario.run()
        results = scenario.results
        record.compare(replicated=True)
        results.totals = Totals.of(subscribers, record, publisher.repeated)
        results.judge_departures(first.departures, "", "", {})
        results.notices = first.notices
        results.wrong += record.wrong
        for gateway in gateways:
            for line in gateway.complaints():
                results.wrong[f"a gateway logged an error: {str(line)[:200]}"] += 1
    return results, scenario.possible_losses
