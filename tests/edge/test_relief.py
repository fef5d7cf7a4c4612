"""What the memory governor does to connections."""

from __future__ import annotations

import pytest

from gateway.edge import Relief
from gateway.metrics import names
from protocol.codes import SHUTDOWN
from tests.support.edge import EdgeWorld, Peer

BUDGET = 1_000_000


class Caches:
    def drop_recent(self) -> int:
        return 3


@pytest.fixture
def world() -> EdgeWorld:
    return EdgeWorld(delivery={"send_budget_bytes": BUDGET})


@pytest.fixture
def relief(world: EdgeWorld) -> Relief:
    return Relief(world.shared, Caches(), lambda _reason: None)


async def slow(world: EdgeWorld, unsent: int) -> Peer:
    peer = await world.connected()
    peer.transport.unsent = unsent
    return peer


async def test_new_connections_are_closed_with_1013_and_those_that_are_there_stay(
    world: EdgeWorld, relief: Relief
) -> None:
    before = await world.connected()
    relief.refuse_connections(True)
    refused = world.upgraded()
    assert refused.close == (1013, "try again later")
    assert world.counters[names.REFUSED_MEMORY] == 1
    assert world.counters[names.REFUSED_FULL] == 0
    assert world.counters[names.CONNECTIONS] == 1
    await world.session.publish("@all", b"1")
    assert len(before.replies()) == 1
    refused.vanish()
    assert world.counters[names.CONNECTIONS] == 1
    relief.refuse_connections(False)
    assert (await world.connected()).close is None


async def test_budgets_are_halved_for_old_and_new_connections_and_come_back(world: EdgeWorld, relief: Relief) -> None:
    old = await world.connected()
    gone = await world.connected()
    gone.transport.closing = True
    relief.scale_budgets(0.5)
    new = await world.connected()
    assert [peer.transport.high_water for peer in (old, gone, new)] == [BUDGET // 2, BUDGET, BUDGET // 2]
    relief.scale_budgets(1.0)
    assert [peer.transport.high_water for peer in (old, new)] == [BUDGET, BUDGET]


async def test_the_client_with_most_unsent_bytes_is_closed_first(world: EdgeWorld, relief: Relief) -> None:
    peers = [await slow(world, unsent) for unsent in (20_000, 900_000, 0, 300_000)]
    order = []
    while relief.close_slowest():
        order.append([number for number, peer in enumerate(peers) if peer.close is not None])
    assert order == [[1], [1, 3], [0, 1, 3]]
    assert peers[1].close == (3008, "slow")


async def test_who_is_closing_already_is_not_the_slowest(world: EdgeWorld, relief: Relief) -> None:
    closing, aborted, other = [await slow(world, unsent) for unsent in (900_000, 800_000, 100_000)]
    closing.connection.shut_down(SHUTDOWN)
    aborted.transport.abort()
    assert relief.close_slowest()
    assert other.close == (3008, "slow")
    assert not relief.close_slowest()


async def test_who_has_next_to_nothing_unsent_is_not_slow(world: EdgeWorld, relief: Relief) -> None:
    peer = await slow(world, 16_383)
    assert not relief.close_slowest()
    assert peer.close is None


def test_caches_compression_and_drain(world: EdgeWorld) -> None:
    reasons: list[str] = []
    relief = Relief(world.shared, Caches(), reasons.append)
    assert relief.shrink_caches() == 3
    relief.allow_compression(False)
    assert not world.shared.compression.allowed
    relief.allow_compression(True)
    assert world.shared.compression.allowed
    relief.drain("out of memory")
    assert reasons == ["out of memory"]
