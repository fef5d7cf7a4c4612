"""What a worker tells Redis about its clients: at once, many together, and again until Redis has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.config import Namespace
from gateway.errors import BrokerRefused, BrokerUnavailable
from gateway.hub import Channel, Presence, presence
from gateway.hub.changes import ChangeFanout
from gateway.metrics import private_row
from protocol.replies import ClientInfo
from tests.support.hub import turn
from tests.support.presence import FakePresenceStore
from tests.support.waiting import wait_until

PRESENT = Namespace(presence=True, join_leave=True)


def channel(name: str = "room", **rules: Any) -> Channel:
    return Channel(name, b"gw:pub:" + name.encode(), Namespace(**rules) if rules else PRESENT)


def info(client: str, user: str = "ada", **more: Any) -> ClientInfo:
    return ClientInfo(user=user, client=client, **more)


class World:
    """The presence of one worker on a store in memory."""

    def __init__(self, *, lease_s: float = 3600.0) -> None:
        self.store: Any = FakePresenceStore()
        changes = ChangeFanout(private_row(), slice_deliveries=256, queue_messages=1000)
        self.presence = Presence(self.store, self.store, changes, SystemClock(), lease_s=lease_s)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.presence.run())

    def enter(self, room: Channel, *clients: str) -> None:
        for client in clients:
            self.presence.entered(room, client, info(client))

    def leave(self, room: Channel, *clients: str) -> None:
        for client in clients:
            self.presence.left(room, client, info(client))

    async def flushed(self) -> None:
        assert await self.presence.flushed(20)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.start()
    yield world
    await world.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "RETRY_S", 0.01)


async def test_who_comes_is_written_and_who_goes_is_taken_out(world: World) -> None:
    room = channel()
    world.enter(room, "a", "b")
    await world.flushed()
    assert world.store.clients("room") == ["a", "b"]
    world.leave(room, "a")
    await world.flushed()
    assert world.store.clients("room") == ["b"]
    assert world.store.told == [("room", "join", "a"), ("room", "join", "b"), ("room", "leave", "a")]


async def test_a_thousand_clients_are_a_few_commands(world: World) -> None:
    room = channel()
    clients = [f"c{number}" for number in range(1200)]
    world.enter(room, *clients)
    await world.flushed()
    assert [len(each) for each in world.store.asked_for("enter")] == [500, 500, 200]
    world.leave(room, *clients)
    await world.flushed()
    assert [len(each) for each in world.store.asked_for("leave")] == [500, 500, 200]
    assert world.store.clients("room") == []


async def test_much_information_is_split(world: World) -> None:
    room = channel()
    for number in range(5):
        big = Raw(b'"%s"' % (b"x" * 100_000))
        world.presence.entered(room, f"c{number}", info(f"c{number}", conn_info=big))
    await world.flushed()
    assert [len(each) for each in world.store.asked_for("enter")] == [2, 2, 1]


async def test_many_channels_leave_together_but_not_all_at_once(world: World) -> None:
    world.store.holding = True
    for number in range(100):
        world.enter(channel(f"room{number}"), "a")
    await turn(5)
    assert len(world.store.asked) == presence.COMMANDS
    world.store.release()
    await world.flushed()
    assert len(world.store.asked) == 100


async def test_a_namespace_without_presence_costs_nothing(world: World) -> None:
    room = channel(presence=False)
    world.enter(room, "a")
    world.leave(room, "a")
    await world.flushed()
    assert world.store.asked == []


async def test_nobody_is_present_in_the_channel_of_everyone(world: World) -> None:
    room = channel("@all")
    world.enter(room, "a")
    world.leave(room, "a")
    await world.flushed()
    assert world.store.asked == []


async def test_with_join_leave_alone_events_are_told_and_nothing_is_kept(world: World) -> None:
    room = channel(join_leave=True)
    world.enter(room, "a")
    world.presence.updated(room, "a", info("a", chan_info=Raw(b"1")))
    world.leave(room, "a")
    assert world.store.told == [("room", "join", "a"), ("room", "leave", "a")]
    assert world.store.asked_for("enter") == []
    world.store.busy = True
    world.enter(room, "b")  # at most once, and never an exception


async def test_with_presence_alone_nobody_is_told(world: World) -> None:
    room = channel(presence=True)
    world.enter(room, "a")
    await world.flushed()
    world.leave(room, "a")
    await world.flushed()
    assert world.store.told == []


async def test_who_has_gone_before_redis_heard_of_it_is_told_of_to_nobody(world: World) -> None:
    room = channel()
    world.enter(room, "a")
    world.leave(room, "a")
    await world.flushed()
    assert world.store.told == []
    assert world.store.clients("room") == []


async def test_who_comes_back_before_redis_heard_of_the_leave_has_never_left(world: World) -> None:
    room = channel()
    world.enter(room, "a")
    await world.flushed()
    world.leave(room, "a")
    world.enter(room, "a")
    await world.flushed()
    assert world.store.told == [("room", "join", "a")]
    assert world.store.clients("room") == ["a"]


async def test_a_leave_of_who_is_not_there_is_harmless(world: World) -> None:
    world.leave(channel(), "a")
    await world.flushed()
    assert world.store.asked == []


async def test_new_information_is_written_without_a_join_and_only_when_it_is_new(world: World) -> None:
    room = channel()
    world.enter(room, "a")
    await world.flushed()
    world.presence.updated(room, "a", info("a"))
    world.presence.updated(room, "a", info("a", conn_info=Raw(b"7")))
    world.presence.updated(room, "stranger", info("stranger"))
    await world.flushed()
    assert world.store.asked_for("restore") == [["a"]]
    assert world.store.channels["room"]["a"].conn_info == Raw(b"7")
    assert world.store.told == [("room", "join", "a")]


async def test_what_redis_did_not_take_is_written_again_until_it_does(world: World, impatient: None) -> None:
    room = channel()
    world.enter(room, "stays", "goes")
    await world.flushed()
    with capture_logs() as lines:
        world.store.error = BrokerUnavailable("gone")
        world.enter(room, "comes", "passes by")
        world.leave(room, "goes")
        await wait_until(lambda: len(world.store.asked) > 10, "it is tried again and again")
        world.leave(room, "passes by")
        assert not await world.presence.flushed(0.01)
        world.store.error = None
        await world.flushed()
    assert world.store.clients("room") == ["stays", "comes"]
    assert world.store.told[2:] in (
        [("room", "leave", "goes"), ("room", "join", "comes")],
        [("room", "join", "comes"), ("room", "leave", "goes")],
    )
    assert [line["event"] for line in lines] == ["presence not written"]


async def test_a_lost_answer_makes_no_second_join(world: World, impatient: None) -> None:
    room = channel()
    world.store.lost_answer = BrokerUnavailable("lost")
    world.enter(room, "a")
    await wait_until(lambda: len(world.store.asked) > 2, "it is tried again")
    world.store.lost_answer = None
    await world.flushed()
    assert world.store.told == [("room", "join", "a")]


async def test_while_too_much_waits_for_redis_nothing_is_lost(world: World, impatient: None) -> None:
    room = channel()
    world.store.busy = True
    world.enter(room, "a")
    await turn(5)
    world.store.busy = False
    await world.flushed()
    assert world.store.clients("room") == ["a"]


async def test_what_redis_refuses_is_not_repeated_at_once(world: World, impatient: None) -> None:
    world.store.error = BrokerRefused("OOM")
    world.enter(channel(), "a")
    await world.flushed()
    assert len(world.store.asked) == 1


async def test_an_unexpected_error_ends_the_worker_instead_of_being_lost() -> None:
    world = World()
    world.store.error = ZeroDivisionError()
    world.enter(channel(), "a")
    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await world.presence.run()


async def test_who_comes_back_while_its_leave_fails_is_there(world: World, impatient: None) -> None:
    room = channel()
    world.enter(room, "a")
    await world.flushed()
    world.store.holding = True
    world.store.error = BrokerUnavailable("gone")
    world.leave(room, "a")
    await turn(3)
    world.enter(room, "a")
    world.store.error = None
    world.store.release()
    await world.flushed()
    assert world.store.clients("room") == ["a"]
    assert ("room", "leave", "a") not in world.store.told


async def test_leaves_that_wait_for_redis_are_bounded(
    world: World, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LEAVES_KEPT", 2)
    rooms = [channel(f"room{number}") for number in range(4)]
    for room in rooms:
        world.enter(room, "a")
    await world.flushed()
    world.store.error = BrokerUnavailable("gone")
    for room in rooms:
        world.leave(room, "a")
    world.store.error = None
    await world.flushed()
    assert [world.store.clients(room.name) for room in rooms] == [[], [], ["a"], ["a"]]
    assert world.presence._rolls == {}


async def test_a_channel_that_nobody_is_in_is_forgotten(world: World) -> None:
    room = channel()
    world.enter(room, "a")
    await world.flushed()
    world.leave(room, "a")
    await world.flushed()
    assert world.presence._rolls == {}
    assert not any(world.presence._slots)


async def test_who_reads_waits_until_redis_knows_what_this_worker_did(world: World) -> None:
    room = channel()
    assert world.presence.told("room") is None
    world.store.holding = True
    world.enter(room, "a")
    first = world.presence.told("room")
    await turn(3)
    world.enter(room, "b")
    second = world.presence.told("room")
    assert first is not None
    assert second is not None
    first.cancel()  # whoever asked may be gone
    world.store.release()
    await second
    assert world.store.clients("room") == ["a", "b"]
    await world.flushed()
    assert world.presence.told("room") is None


async def test_who_reads_does_not_wait_for_a_redis_that_is_away(world: World) -> None:
    world.store.error = BrokerUnavailable("gone")
    world.enter(channel(), "a")
    waiting = world.presence.told("room")
    assert waiting is not None
    await asyncio.wait_for(waiting, 20)


# Renewing.


async def renewing(world: World) -> None:
    rounds = len(world.store.asked_for("renew"))
    await wait_until(lambda: len(world.store.asked_for("renew")) > rounds, "a renewal")


async def test_everyone_is_renewed_in_batches_while_present() -> None:
    world = World(lease_s=0.2)
    world.start()
    room, other = channel(), channel("other")
    world.enter(room, *(f"c{number}" for number in range(700)))
    world.enter(other, "a")
    await wait_until(lambda: len(world.store.asked_for("renew")) >= 9, "some rounds")
    assert {(name, len(clients)) for kind, name, clients in world.store.asked if kind == "renew"} == {
        ("room", 500),
        ("room", 200),
        ("other", 1),
    }
    world.leave(other, "a")
    await world.flushed()
    world.store.asked.clear()
    await renewing(world)
    await renewing(world)
    assert {name for kind, name, _ in world.store.asked} == {"room"}
    await world.stop()


async def test_what_redis_has_lost_is_restored_without_a_join() -> None:
    world = World(lease_s=0.2)
    world.start()
    world.enter(channel(), "a", "b")
    await world.flushed()
    told = list(world.store.told)
    world.store.channels.clear()
    await wait_until(lambda: world.store.clients("room") == ["a", "b"], "everyone is back")
    assert world.store.told == told
    await world.stop()


async def test_renewing_goes_on_after_every_kind_of_trouble(impatient: None) -> None:
    world = World(lease_s=0.2)
    world.start()
    world.enter(channel(), "a")
    await world.flushed()
    for error in (BrokerUnavailable("gone"), BrokerRefused("no")):
        world.store.error = error
        await renewing(world)
    world.store.error, world.store.busy = None, True
    await asyncio.sleep(0.1)
    world.store.busy = False
    await renewing(world)
    await world.stop()


async def test_channels_are_spread_over_the_interval() -> None:
    world = World()
    for number in range(60):
        world.enter(channel(f"room{number}"), "a")
    assert {len(slot) for slot in world.presence._slots} == {3}


# Any history, with failures in between, ends with Redis knowing who is there.

STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "update", "turn", "fail", "lose", "heal"]), st.integers(0, 2)),
    max_size=30,
)


@given(STEPS)
def test_in_the_end_redis_knows_who_is_there_and_nobody_was_told_of_two_joins(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        world = World()
        world.start()
        room = channel()
        here: set[str] = set()
        for step, number in steps:
            client = f"c{number}"
            if step == "enter" and client not in here:
                here.add(client)
                world.enter(room, client)
            elif step == "leave" and client in here:
                here.remove(client)
                world.leave(room, client)
            elif step == "update":
                world.presence.updated(room, client, info(client, chan_info=Raw(b"%d" % number)))
            elif step == "turn":
                await turn(3)
            elif step in ("fail", "lose", "heal"):
                world.store.error = BrokerUnavailable("gone") if step == "fail" else None
                world.store.lost_answer = BrokerUnavailable("lost") if step == "lose" else None
        world.store.error = world.store.lost_answer = None
        await world.flushed()
        assert set(world.store.clients("room")) == here
        told: dict[str, str] = {}
        for _, event, client in world.store.told:
            assert event == "leave" or told.get(client) != "join"
            told[client] = event
        assert {client for client, event in told.items() if event == "join"} == here
        await world.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "RETRY_S", 0.001)
        asyncio.run(run())
