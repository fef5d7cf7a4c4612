"""The events of one worker on their way: order, attempts, the lease, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.broker import LifecycleEvent
from gateway.broker.lifecycle import Reaped, Renewed
from gateway.clock import SystemClock
from gateway.errors import BrokerBusy, BrokerUnavailable
from gateway.hub import Lifecycle, Member, lifecycle
from gateway.metrics import names, private_row
from tests.support.waiting import wait_until


class FakeStore:
    """Keeps what is written, as the script does. Fails as often as `failures` says."""

    def __init__(self) -> None:
        self.leases: set[str] = set()
        self.written: list[tuple[str, LifecycleEvent]] = []
        self.batches: list[int] = []
        self.dead: list[str] = []
        self.reaped: list[str] = []
        self.ended: list[str] = []
        self.failures: list[Exception] = []
        self.away = False

    def _done(self, value: Any) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.away:
            done.set_exception(BrokerUnavailable("away"))
        elif self.failures:
            done.set_exception(self.failures.pop(0))
        else:
            done.set_result(value)
        return done

    def begin(self, worker: str) -> asyncio.Future[Any]:
        if not self.away:
            self.leases.add(worker)
        return self._done(None)

    def renew(self, worker: str) -> asyncio.Future[Renewed]:
        return self._done(Renewed(worker in self.leases, list(self.dead)))

    def append(self, worker: str, events: Sequence[LifecycleEvent]) -> asyncio.Future[bool]:
        if worker in self.leases and not self.away:
            last = max((event.number for name, event in self.written if name == worker), default=0)
            self.written += [(worker, event) for event in events if event.number > last]
            self.batches.append(len(events))
        return self._done(worker in self.leases)

    def end(self, worker: str, at_ms: int) -> asyncio.Future[Reaped]:
        self.ended.append(worker)
        return self._done(Reaped(0, True))

    def reap(self, worker: str, at_ms: int) -> asyncio.Future[Reaped]:
        self.reaped.append(worker)
        done = self.reaped.count(worker) == 3
        if done:
            self.dead.remove(worker)
        return self._done(Reaped(1, done))

    def told(self) -> list[tuple[str, str, str]]:
        return [(event.kind, event.client, event.channel or event.reason) for _, event in self.written]


class World:
    def __init__(self, *, lease_s: float) -> None:
        self.store: Any = FakeStore()
        self.counters = private_row()
        self.lifecycle = Lifecycle(self.store, self.counters, SystemClock(), lease_s=lease_s)
        self.members: list[Member] = []
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.lifecycle.run(self._everybody))

    def _everybody(self) -> Iterator[Member]:
        yield from self.members

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def written(self, count: int) -> None:
        await wait_until(lambda: len(self.store.written) >= count, f"{count} events are written")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(lifecycle, "RETRY_S", 0.01)
    world = World(lease_s=3600)
    yield world
    await world.stop()


@pytest.fixture
async def hurried(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Renews its lease all the time."""
    monkeypatch.setattr(lifecycle, "RETRY_S", 0.01)
    world = World(lease_s=0.03)
    yield world
    await world.stop()


async def test_events_are_written_in_order_many_at_a_time(world: World) -> None:
    world.lifecycle.connected("c", "ada")
    for n in range(500):
        world.lifecycle.subscribed("c", "ada", f"x{n}")
    world.lifecycle.unsubscribed("c", "ada", "x0")
    world.lifecycle.disconnected("c", "ada", "slow")
    world.start()
    await world.written(503)
    expected = [("connected", "c", ""), *(("subscribed", "c", f"x{n}") for n in range(500))]
    assert world.store.told() == [*expected, ("unsubscribed", "c", "x0"), ("disconnected", "c", "slow")]
    assert world.store.batches == [200, 200, 103]
    await wait_until(lambda: world.counters[names.EVENTS] == 503, "all are counted")


@pytest.mark.parametrize("failure", [BrokerUnavailable("answer lost"), BrokerBusy(1)], ids=repr)
async def test_a_batch_whose_answer_was_lost_is_sent_again_and_nothing_is_doubled(
    world: World, failure: Exception
) -> None:
    world.start()
    await wait_until(lambda: world.lifecycle.worker, "it has a lease")
    world.store.failures = [failure] * 3
    world.lifecycle.connected("c", "ada")
    world.lifecycle.disconnected("c", "ada", "")
    await wait_until(lambda: world.counters[names.EVENTS] == 2, "they are confirmed")
    assert len(world.store.batches) > 1
    assert world.store.told() == [("connected", "c", ""), ("disconnected", "c", "")]


async def test_while_redis_is_away_events_wait_in_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "WAITING", 10)
    world.store.away = True
    with capture_logs() as lines:
        world.lifecycle._log = lifecycle.get_logger()
        world.start()
        for n in range(25):
            world.lifecycle.subscribed("c", "ada", f"x{n}")
        for n in range(25):
            world.lifecycle.connected(f"c{n}", "ada")
        await wait_until(lambda: lines, "it is said")
        await asyncio.sleep(0.05)
    assert [line["event"] for line in lines] == ["events wait for Redis"], "once a minute"
    assert world.counters[names.EVENTS_DROPPED] == 15 + 15
    world.store.away = False
    await world.written(20)
    assert [kind for kind, _, _ in world.store.told()] == ["subscribed"] * 10 + ["connected"] * 10


async def test_who_lost_the_lease_tells_again_of_everybody_under_another_name(hurried: World) -> None:
    hurried.start()
    hurried.lifecycle.connected("old", "ada")
    await hurried.written(1)
    first = hurried.lifecycle.worker
    hurried.members = [Member("c1", "ada", ["x", "y"]), Member("c2", "", [])]
    hurried.store.leases.clear()
    await hurried.written(5)
    assert hurried.store.told()[1:] == [
        ("connected", "c1", ""),
        ("subscribed", "c1", "x"),
        ("subscribed", "c1", "y"),
        ("connected", "c2", ""),
    ]
    assert hurried.lifecycle.worker != first
    assert [event.number for _, event in hurried.store.written] == [1, 1, 2, 3, 4]


async def test_dead_workers_are_reaped_to_the_end(hurried: World) -> None:
    hurried.store.dead = ["dead"]
    hurried.start()
    await wait_until(lambda: not hurried.store.dead, "it is reaped")
    await wait_until(lambda: hurried.counters[names.EVENTS_REAPED] == 3, "it is counted")


async def test_the_end_writes_what_waits_and_gives_up_the_lease(world: World) -> None:
    world.start()
    await wait_until(lambda: world.lifecycle.worker, "it has a lease")
    world.lifecycle.disconnected("c", "ada", "shutdown")
    assert await world.lifecycle.finish()
    assert world.store.told() == [("disconnected", "c", "shutdown")]
    assert world.store.ended == [world.lifecycle.worker]
    assert world.task is not None
    await world.task


async def test_without_redis_the_end_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "FINISH_S", 0.05)
    world.store.away = True
    world.start()
    assert not await world.lifecycle.finish()
