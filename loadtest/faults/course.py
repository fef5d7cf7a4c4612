"""What all scenarios are made of: time in which publications flow, healing, and the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from loadtest.bench.stages import Stages
from loadtest.faults.gateway import Gateway
from loadtest.faults.healing import Healing
from loadtest.faults.plan import Plan
from loadtest.faults.publisher import Publisher
from loadtest.faults.results import Results
from loadtest.faults.subscriber import Subscriber, Surroundings

POLL_S: Final = 0.01
SAMPLE_S: Final = 0.25


class Course:
    """One run. `subscribers` are connected, `publisher` publishes."""

    def __init__(
        self,
        plan: Plan,
        stages: Stages,
        gateways: Sequence[Gateway],
        publisher: Publisher,
        subscribers: Sequence[Subscriber],
        around: Sequence[Surroundings],
    ) -> None:
        """`around`: one for each gateway. They share everything but the gateway."""
        self.results = Results(plan)
        self._plan = plan
        self._stages = stages
        self._gateways = gateways
        self._publisher = publisher
        self._subscribers = subscribers
        self._around = around

    async def _steady(self, fault: str) -> None:
        for around in self._around:
            around.fault = fault
        await self._pass_time("publications flow", self._plan.steady_s)

    async def _pass_time(
        self,
        text: str,
        seconds: float,
        look: Callable[[], None] | None = None,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Let publications flow for a while, or `until` something has happened."""
        begin = time.monotonic()
        with self._stages.stage(text, round(seconds * 1000)) as progress:
            while (passed := time.monotonic() - begin) < seconds and not until():
                progress(round(passed * 1000))
                await asyncio.sleep(min(SAMPLE_S, seconds - passed))
                self._check()
                if look is not None:
                    look()

    async def _heal(
        self, fault: str, subscribers: Sequence[Subscriber], look: Callable[[], None] | None = None
    ) -> None:
        await self._wait_healed(self._healing(fault, subscribers), look)

    def _healing(self, fault: str, subscribers: Sequence[Subscriber]) -> Healing:
        healing = Healing(fault, subscribers, self._around[0].record)
        self.results.healed.append(healing.healed)
        return healing

    async def _wait_healed(self, healing: Healing, look: Callable[[], None] | None = None) -> None:
        count = healing.left
        until = time.monotonic() + self._plan.healing_deadline_s
        with self._stages.stage(f"healing: {healing.healed.fault}", count) as progress:
            while healing.left and time.monotonic() < until:
                await asyncio.sleep(POLL_S)
                healing.look()
                progress(count - healing.left)
                self._check()
                if look is not None:
                    look()
        healing.give_up()

    def _check(self) -> None:
        self._publisher.check()
        for gateway in self._gateways:
            gateway.check_alive()

    def _complete(self, subscriber: Subscriber) -> bool:
        for channel, subscription in subscriber.subscriptions.items():
            newest = self._around[0].record.newest(channel)
            if newest is not None and not subscription.ledger.reached(newest):
                return False
        return True

    async def _finish(self) -> None:
        """No more publications: everybody must reach the end."""
        await self._steady("the end")
        await self._publisher.stop()
        until = time.monotonic() + self._plan.healing_deadline_s
        with self._stages.stage("everybody reaches the end", len(self._subscribers)) as progress:
            while (left := sum(not self._complete(each) for each in self._subscribers)) and time.monotonic() < until:
                progress(len(self._subscribers) - left)
                await asyncio.sleep(POLL_S)
