"""The faults, one after another, while publications flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.course import Course
from loadtest.faults.gateway import WORKERS, Gateway
from loadtest.faults.memory import Memory
from loadtest.faults.plan import Plan
from loadtest.faults.publisher import Publisher, client_of
from loadtest.faults.redis_server import STATUS, RedisServer
from loadtest.faults.subscriber import Subscriber, Surroundings

OVERRUN_BYTES: Final = 65_536
"""Output buffer of a subscriber while it is to be overrun; a burst is some times as much for each."""
FALLEN_BEHIND: Final = "gateway_subscribers_behind"


class Scenario(Course):
    """The faults of one gateway and one Redis."""

    def __init__(
        self,
        plan: Plan,
        stages: Stages,
        redis: RedisServer,
        gateway: Gateway,
        publisher: Publisher,
        subscribers: Sequence[Subscriber],
        around: Surroundings,
    ) -> None:
        super().__init__(plan, stages, (gateway,), publisher, subscribers, (around,))
        self.killed = ""
        """The worker that was killed, during the fault KILLED_WORKER."""
        self._redis = redis
        self._gateway = gateway
        self._ghosts: list[str] = []
        self._vanished_at = 0.0

    async def run(self) -> None:
        """All faults. Raises BenchError when one cannot be brought about."""
        await self._vanish()
        await self._cut()
        await self._freeze()
        await self._overrun()
        await self._restart("Redis restarted with its data", forget=False)
        await self._sleep()
        await self._kill_worker()
        await self._restart("Redis restarted without its data", forget=True)
        await self._part()

    # The faults.

    async def _vanish(self) -> None:
        """First, because the gateway may take a ping interval and a pong timeout to find out, and should have done so
        before a worker is killed."""
        fault = "clients vanish without FIN"
        await self._steady(fault)
        vanishing = self._group(1)
        self._ghosts = [subscriber.vanish() for subscriber in vanishing]
        self._vanished_at = time.monotonic()
        await self._heal(fault, vanishing)

    async def _cut(self) -> None:
        fault = "subscriber connections killed"
        await self._steady(fault)
        async with client_of(self._redis.port) as client:
            for _ in range(self._plan.cuts):
                await self._wait_subscribed(fault, client)
                await client.client_kill_filter(_type="pubsub")
        await self._heal(fault, self._subscribers)

    async def _freeze(self) -> None:
        fault = f"Redis silent for {self._plan.frozen_s:g} s"
        await self._steady(fault)
        self._redis.freeze()
        try:
            await self._pass_time(fault, self._plan.frozen_s)
        finally:
            self._redis.thaw()
        await self._heal(fault, self._subscribers)

    async def _overrun(self) -> None:
        fault = "subscribers' output buffers overrun"
        await self._steady(fault)
        async with client_of(self._redis.port) as client:
            overruns = await client.info("stats")
            await client.config_set("client-output-buffer-limit", f"pubsub {OVERRUN_BYTES} {OVERRUN_BYTES} 1")
            await self._publisher.burst(self._plan.burst)
            healing = self._healing(fault, self._subscribers)
            if STATUS in overruns and (await client.info("stats"))[STATUS] == overruns[STATUS]:
                self._without_effect(fault)
            await client.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
        await self._wait_healed(healing)

    async def _restart(self, fault: str, *, forget: bool) -> None:
        await self._steady(fault)
        self._redis.kill()
        if forget:
            self._redis.forget()
        await self._pass_time(fault, self._plan.down_s)
        await asyncio.to_thread(self._redis.start)
        await self._heal(fault, self._subscribers)

    async def _kill_worker(self) -> None:
        fault = KILLED_WORKER
        await self._steady(fault)
        worker_of = self._gateway.worker_of()
        self.killed = worker_of[self._subscribers[0].client_id]
        concerned = [each for each in self._subscribers if worker_of.get(each.client_id) == self.killed]
        self._gateway.kill(self.killed)
        await self._heal(fault, concerned)

    async def _sleep(self) -> None:
        """Clients that do not read, on channels that carry much more than may wait for them."""
        fault = f"clients do not read for {self._plan.asleep_s:g} s"
        await self._steady(fault)
        sleepers = self._group(0)
        memory = self.results.memory = Memory.of(self._plan, len(sleepers))
        behind = self._gateway.counted(FALLEN_BEHIND)

        def look() -> None:
            memory.sample(self._gateway.rss_bytes())

        def all_fell_behind() -> bool:
            self.results.fell_behind = self._gateway.counted(FALLEN_BEHIND) - behind
            return self.results.fell_behind >= len(sleepers)

        look()
        for channel in sleepers[0].subscriptions:
            self._publisher.rates[channel] = self._plan.surge_per_s
        for subscriber in sleepers:
            subscriber.fall_asleep()
        await self._pass_time(fault, self._plan.asleep_s, look)
        if not all_fell_behind():  # a slow machine takes longer to fill what may wait for them
            more = self._plan.healing_deadline_s
            await self._pass_time(f"{more:g} s more, until they fall behind", more, look, all_fell_behind)
        if not all_fell_behind():
            self._without_effect(fault)
        for subscriber in sleepers:
            subscriber.wake_up()
        await self._heal(fault, sleepers, look)
        for channel in sleepers[0].subscriptions:
            self._publisher.rates[channel] = self._plan.rate_per_s

    async def _part(self) -> None:
        """No more publications: everybody must reach the end. And the gateway must have noticed who vanished."""
        await self._finish()
        noticed = self._plan.ping_interval_s + self._plan.pong_timeout_s + 5.0
        with self._stages.stage("the gateway notices who vanished", len(self._ghosts)) as progress:
            while (done := self._count_ghosts()) < len(self._ghosts):
                if time.monotonic() > self._vanished_at + noticed + self._plan.healing_deadline_s:
                    break
                progress(done)
                await asyncio.sleep(0.1)
        if done < len(self._ghosts):
            self.results.wrong["connections of vanished clients are still open"] += len(self._ghosts) - done

    def _count_ghosts(self) -> int:
        """How many connections of vanished clients have ended. A worker that is killed takes its own with it."""
        ends, worker_of = self._gateway.ends(), self._gateway.worker_of()
        found = self.results.ghosts
        found.clear()
        for ghost in self._ghosts:
            if ghost in ends:
                code, reason = ends[ghost]
                found[f"{code} {reason}".strip()] += 1
            elif self.killed and worker_of.get(ghost) == self.killed:
                found["its worker was killed"] += 1
        return sum(found.values())

    # Their parts.

    async def _wait_subscribed(self, fault: str, client: Redis) -> None:
        """Wait until every worker is connected to Redis to subscribe: a connection that is not there cannot be cut."""
        until = time.monotonic() + self._plan.healing_deadline_s
        while len(await client.client_list(_type="pubsub")) < WORKERS:
            if time.monotonic() > until:
                raise BenchError(f"{fault}: the workers have not all subscribed in Redis")
            await self._pass_time(fault, 0.1)

    def _group(self, number: int) -> list[Subscriber]:
        """The clients that share the channels `number` and `number` + 1."""
        return [each for index, each in enumerate(self._subscribers) if index % self._plan.channels == number]

    def _without_effect(self, fault: str) -> None:
        """A fault that does not happen proves nothing."""
        self.results.wrong[f"“{fault}” had no effect"] += 1


KILLED_WORKER: Final = "one worker killed"
