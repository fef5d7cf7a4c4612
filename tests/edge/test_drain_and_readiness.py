"""Closing everybody one by one, and saying when a worker should get traffic."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.edge import Readiness, drain
from gateway.metrics import names, private_row
from protocol.codes import SHUTDOWN
from tests.support.edge import EdgeWorld


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that `drain` waits, without waiting."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    # By module: the name `gateway.edge.drain` is the function's.
    monkeypatch.setattr(sys.modules["gateway.edge.drain"], "asyncio", SimpleNamespace(sleep=sleep))
    return slept


@pytest.mark.parametrize(("random", "share"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
async def test_clients_are_closed_with_3001_one_by_one_over_the_window(
    sleeps: list[float], random: float, share: float
) -> None:
    world = EdgeWorld()
    peers = [await world.connected(str(number)) for number in range(10)]
    assert await drain(world.shared.connections, SHUTDOWN, 5.0, lambda: random) == 10
    assert [peer.close for peer in peers] == [(3001, "shutdown")] * 10
    assert sleeps == pytest.approx([0.5 * share] * 10)


async def test_many_clients_share_their_waits(sleeps: list[float]) -> None:
    world = EdgeWorld()
    for number in range(100):
        await world.connected(str(number))
    await drain(world.shared.connections, SHUTDOWN, 0.1, lambda: 1.0)
    assert sum(sleeps) == pytest.approx(0.1)
    assert len(sleeps) <= 20


async def test_no_window_is_no_wait(sleeps: list[float]) -> None:
    world = EdgeWorld()
    peers: list[Any] = [await world.connected(), world.upgraded()]
    assert await drain(world.shared.connections, SHUTDOWN, 0.0, lambda: 1.0) == 2
    assert [peer.close for peer in peers] == [(3001, "shutdown")] * 2
    assert sleeps == []
    assert await drain([], SHUTDOWN, 5.0, lambda: 1.0) == 0


def test_a_worker_is_ready_when_it_is_started_hears_its_canary_and_does_not_drain() -> None:
    counters = private_row()
    readiness = Readiness(counters)
    assert readiness.answer() == (False, "starting")
    readiness.canary(True)
    assert not readiness.answer()[0]
    readiness.started()
    assert readiness.answer() == (True, "ready")
    assert counters[names.READY] == 1
    readiness.canary(False)
    assert not readiness.answer()[0]
    assert readiness.answer()[1].startswith("degraded")
    assert counters[names.READY] == 0
    readiness.canary(True)
    readiness.draining()
    assert readiness.answer() == (False, "draining")
    assert counters[names.READY] == 0


async def test_a_worker_waits_for_redis_but_starts_without_it() -> None:
    readiness = Readiness(private_row())
    waiting = asyncio.ensure_future(readiness.wait_for_redis(60))
    readiness.canary(True)
    await waiting
    with capture_logs() as lines:
        await Readiness(private_row()).wait_for_redis(0)
    assert [line["event"] for line in lines] == ["starting without redis"]


async def test_handshakes_under_way_are_waited_for_and_what_comes_of_them_is_closed(sleeps: list[float]) -> None:
    world = EdgeWorld()
    early, late = await world.connected("early"), world.peer()
    peers: list[Any] = []

    def handshakes() -> int:
        if len(sleeps) == 3 and not peers:
            peers.append(world.upgraded())
            late.vanish()
        return len(world.shared.handshakes)

    assert (
        await drain(world.shared.connections, SHUTDOWN, 0.0, lambda: 1.0, handshakes=handshakes, patience_s=60.0) == 2
    )
    assert [early.close, peers[0].close] == [(3001, "shutdown")] * 2


async def test_handshakes_that_do_not_end_are_waited_for_no_longer_than_that(sleeps: list[float]) -> None:
    world = EdgeWorld()
    assert await drain(world.shared.connections, SHUTDOWN, 0.0, lambda: 1.0, handshakes=lambda: 1, patience_s=1.0) == 0
    assert sum(sleeps) == pytest.approx(1.0, abs=0.05)
