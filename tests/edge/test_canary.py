"""The canary: what counts as a sign, how many signs change the verdict, and a Redis that stops and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import CommandQueue, Subscriber
from gateway.clock import FakeClock, SystemClock
from gateway.config import Redis as RedisSettings
from gateway.edge import Canary
from gateway.edge.canary import HITS, MISSES, Hysteresis
from gateway.errors import BrokerBusy
from gateway.hub import Hub
from gateway.metrics import LatencyRecorder, LatencyRow
from gateway.metrics.histograms import recent
from gateway.metrics.names import OP_REDIS_CANARY
from gateway.storage.redis import connect, endpoint
from protocol.redis_contract import canary_channel
from tests.support.hub import HubWorld
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

CHANNEL = canary_channel("gw", "me")


def test_its_channel_is_none_of_a_client() -> None:
    assert CHANNEL == b"gw:canary:me"


# How many signs change the verdict.


def test_the_first_good_sign_counts_at_once_and_bad_ones_before_it_do_not() -> None:
    verdict = Hysteresis(down_after=5, up_after=2)
    assert [verdict.sign(False) for _ in range(9)] == [False] * 9
    assert verdict.sign(True)
    assert verdict.up


@given(st.lists(st.booleans()), st.integers(1, 6), st.integers(1, 4))
def test_afterwards_it_takes_so_many_contrary_signs_in_a_row(signs: list[bool], down: int, up: int) -> None:
    verdict = Hysteresis(down_after=down, up_after=up)
    verdict.sign(True)
    history = [True]
    for sign in signs:
        before = verdict.up
        changed = verdict.sign(sign)
        history.append(sign)
        needed = down if before else up
        assert changed == (verdict.up != before)
        if changed:
            assert history[-needed:] == [verdict.up] * needed
        run = len(history) - next((at for at in range(len(history), 0, -1) if history[at - 1] == verdict.up), 0)
        assert run < (down if verdict.up else up), "so many in a row would have changed it"


# What counts as a sign.


class World:
    """A canary whose messages the test brings back."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.sent: list[bytes] = []
        self.asked = 0
        self.answers: list[asyncio.Future[int]] = []
        self.busy = False
        self.verdicts: list[bool] = []
        self.row = LatencyRow.private()
        self.canary = Canary(
            self.publish,
            self.subscribe,
            self.verdicts.append,
            self.clock,
            channel=CHANNEL,
            interval_s=2.0,
            latency=LatencyRecorder(self.row, self.clock.monotonic(), self.clock.time(), slow_s=1.0),
        )

    def publish(self, channel: bytes, payload: bytes) -> asyncio.Future[int]:
        if self.busy:
            raise BrokerBusy(10_000)
        assert channel == CHANNEL
        self.sent.append(payload)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    def subscribe(self, channel: bytes) -> None:
        assert channel == CHANNEL
        self.asked += 1

    def round(self, *, comes: bool, answered: bool = True) -> None:
        self.canary.beat()
        if answered and not self.answers[-1].done():
            self.answers[-1].set_result(1)
        if comes:
            self.canary.heard(self.sent[-1])


async def test_five_that_are_lost_in_a_row_are_needed_and_two_that_come_back() -> None:
    world = World()
    world.round(comes=True)
    assert world.verdicts == [True]
    for _ in range(3):
        for _ in range(MISSES - 1):
            world.round(comes=False)
        world.round(comes=True)
    assert world.verdicts == [True], "a blip"
    for _ in range(MISSES + 1):
        world.round(comes=False)
    assert world.verdicts == [True, False]
    for _ in range(HITS - 1):
        world.round(comes=True)
    assert world.verdicts == [True, False]
    world.round(comes=True)
    assert world.verdicts == [True, False, True]


async def test_while_redis_owes_an_answer_no_more_is_sent_and_each_interval_is_a_miss() -> None:
    world = World()
    world.round(comes=True)
    for _ in range(MISSES + 1):
        world.round(comes=False, answered=False)
    assert len(world.sent) == 2
    assert world.verdicts == [True, False]
    world.clock.advance(12)
    world.canary.heard(world.sent[-1])
    assert recent([world.row], OP_REDIS_CANARY, 0.0).count == 0
    assert recent([world.row], OP_REDIS_CANARY, world.clock.monotonic()).longest_ns == 12 * 10**9


async def test_what_is_not_the_last_canary_is_no_sign() -> None:
    world = World()
    world.round(comes=False)
    world.round(comes=False)
    for payload in (world.sent[0], b"", b"x", b"99"):
        world.canary.heard(payload)
    assert world.verdicts == []
    world.canary.heard(world.sent[1])
    world.canary.heard(world.sent[1])
    assert world.verdicts == [True]
    assert recent([world.row], OP_REDIS_CANARY, world.clock.monotonic()).count == 1


async def test_a_queue_that_takes_no_more_is_a_miss_and_the_channel_is_asked_for_again() -> None:
    world = World()
    world.round(comes=True)
    world.busy = True
    for _ in range(MISSES + 1):
        world.canary.beat()
    assert world.verdicts == [True, False]
    assert world.asked == MISSES + 1, "also before the first"


# With a real Redis.


class Worker:
    """The parts of an edge worker that a canary goes through."""

    def __init__(self, url: str, interval_s: float) -> None:
        settings = RedisSettings(url=url, connect_timeout_s=1.0, probe_interval_s=0.5)
        self.client = connect(settings)
        self.queue = CommandQueue(self.client)
        self.subscriber = Subscriber(
            endpoint(settings), connect_timeout_s=1.0, probe_interval_s=0.5, random=lambda: 0.5
        )
        self.verdicts: list[bool] = []
        self.connects = 0
        self.row = LatencyRow.private()
        clock = SystemClock()
        self.recorder = LatencyRecorder(self.row, clock.monotonic(), clock.time(), slow_s=10.0)
        self.canary = Canary(
            self.queue.publish,
            self.subscriber.subscribe,
            self.verdicts.append,
            clock,
            channel=CHANNEL,
            interval_s=interval_s,
            latency=self.recorder,
        )
        self.hub: Hub = HubWorld().hub
        self.hub._redis_state_changed = self._changed
        self.hub.handle(CHANNEL, self.canary.heard)

    def round_trips(self) -> int:
        return recent([self.row], OP_REDIS_CANARY, SystemClock().monotonic()).count

    def _changed(self, connected: bool) -> None:
        self.connects += connected
        self.canary.redis_changed(connected)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    tasks = [
        asyncio.create_task(part)
        for part in (worker.queue.run(), worker.subscriber.run(worker.hub), worker.canary.run())
    ]
    try:
        yield worker
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await worker.client.aclose()


async def test_the_first_canary_flies_as_soon_as_redis_is_there(redis_server: RedisServer) -> None:
    async with running(Worker(redis_server.url, interval_s=3600)) as worker:
        await wait_until(lambda: worker.verdicts == [True], "it has come back, long before its interval is over")
        assert worker.round_trips() == 1


async def test_a_frozen_redis_changes_the_verdict_and_one_that_goes_on_changes_it_back(
    redis_server: RedisServer,
) -> None:
    async with running(Worker(redis_server.url, interval_s=0.1)) as worker:
        await wait_until(lambda: worker.verdicts == [True], "it comes back")
        redis_server.freeze()
        try:
            await wait_until(lambda: worker.verdicts == [True, False], "it is missed")
        finally:
            redis_server.thaw()
        await wait_until(lambda: worker.verdicts == [True, False, True], "it comes back again")


async def test_a_connection_that_breaks_and_comes_again_is_no_reason(redis_server: RedisServer) -> None:
    """All workers lose theirs in the same moment when a Redis restarts: none may turn its load balancer away."""
    async with running(Worker(redis_server.url, interval_s=3.0)) as worker:
        await wait_until(lambda: worker.verdicts == [True], "it comes back")
        redis_server.kill()
        redis_server.start()
        await wait_until(lambda: worker.connects == 2, "the subscriber is back")
        before = worker.round_trips()
        await wait_until(lambda: worker.round_trips() > before, "it comes back again")
        assert worker.verdicts == [True]
