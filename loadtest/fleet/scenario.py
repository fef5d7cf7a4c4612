"""Servers die, slots move, and one falls silent, while publications flow to the clients of two gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loadtest.bench.stages import Stages
from loadtest.faults.course import Course
from loadtest.faults.gateway import Gateway
from loadtest.faults.plan import Plan
from loadtest.faults.publisher import Publisher
from loadtest.faults.subscriber import Subscriber, Surroundings
from loadtest.fleet.cluster import ClusterFleet
from loadtest.fleet.publishing import RedisFleet
from loadtest.fleet.servers import Server

POSSIBLE_LOSSES = "gateway_possible_losses"


class FleetScenario(Course):
    """One run on one fleet of Redis servers."""

    def __init__(
        self,
        plan: Plan,
        stages: Stages,
        fleet: RedisFleet,
        gateways: Sequence[Gateway],
        publisher: Publisher,
        subscribers: Sequence[Subscriber],
        around: Sequence[Surroundings],
    ) -> None:
        super().__init__(plan, stages, gateways, publisher, subscribers, around)
        self.possible_losses = 0
        """What the gateways say of channels without history, such as each user's own."""
        self._fleet = fleet
        self._channels = list(publisher.rates)

    async def run(self) -> None:
        """Everything. Raises BenchError when something cannot be brought about."""
        if isinstance(self._fleet, ClusterFleet):
            await self._move_slots(self._fleet)
        await self._kill_master("a master killed")
        await self._silence_master()
        await self._kill_master("its successor killed")
        await self._finish()
        self.possible_losses = sum([await asyncio.to_thread(each.counted, POSSIBLE_LOSSES) for each in self._gateways])

    async def _move_slots(self, fleet: ClusterFleet) -> None:
        fault = f"{len(self._channels)} slots moved"
        await self._steady(fault)
        with self._stages.stage(fault, len(self._channels)) as progress:
            for number, channel in enumerate(self._channels):
                await asyncio.to_thread(fleet.move_slot, channel)
                progress(number)
        await self._heal(fault, self._subscribers)

    async def _kill_master(self, fault: str) -> None:
        await self._steady(fault)
        master = await self._master()
        master.kill()
        await self._fail_over(fault, master)
        await asyncio.to_thread(master.start)
        await self._heal(fault, self._subscribers)
        await self._wait_well()

    async def _silence_master(self) -> None:
        """As a host that is cut off: connections stay open. It comes back when another has its place."""
        fault = "a master silent"
        await self._steady(fault)
        master = await self._master()
        master.freeze()
        try:
            await self._fail_over(fault, master)
        finally:
            master.thaw()
        await self._heal(fault, self._subscribers)
        await self._wait_well()

    async def _master(self) -> Server:
        return await asyncio.to_thread(self._fleet.master_of, self._channels[0])

    async def _fail_over(self, fault: str, master: Server) -> None:
        with self._stages.stage(f"fail-over: {fault}"):
            await asyncio.to_thread(self._fleet.wait_failed_over, self._channels[0], master)
        self._check()

    async def _wait_well(self) -> None:
        with self._stages.stage("every server is back"):
            await asyncio.to_thread(self._fleet.wait_well)
