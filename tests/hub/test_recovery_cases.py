"""Single cases of recovery that random interleavings reach too rarely (see the model in `test_recovery_model`)."""

from __future__ import annotations

import pytest

from gateway.hub import catchup, feed
from tests.hub.test_recovery_model import CHANNEL, World
from tests.support.hub import turn


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RETRY_S", (0.001, 0.002))
    monkeypatch.setattr(catchup, "RETRY_S", 0.001)
    monkeypatch.setattr(catchup, "TELL", (2, 0.001))


@pytest.mark.parametrize("publications", range(1, 12))
async def test_the_last_of_many_at_once_is_not_forgotten_when_nothing_more_comes(publications: int) -> None:
    world = World()
    await world.join(None)
    for _ in range(publications):
        world.publish(heard=True)
    await world.end()
    assert [member.offset for member in world.members] == [publications]


async def test_a_log_that_was_trimmed_to_nothing_is_too_short() -> None:
    world = World()
    await world.join(None)
    for _ in range(3):
        world.publish(heard=False)
    world.log.trim(CHANNEL, 0)
    await world.end()
    assert len(world.told) == 1
    await world.join(None)
    world.publish(heard=True)
    await world.end()
    assert [member.offset for member in world.members] == [4]


async def test_after_a_loss_nobody_gets_what_was_published_in_the_life_before() -> None:
    world = World()
    await world.join(None)
    for _ in range(3):
        world.publish(heard=True)
    await turn(5)
    world.leave(world.members[0])
    await world.join(None)
    away = world.gone[0]
    away.offset = 0
    await world.join(away)  # from here on the newest publications are kept in memory
    await world.end()
    world.log.lose(CHANNEL)
    for _ in range(2):
        world.publish(heard=True)
    await world.end()
    told = world.told[0]
    told.epoch, told.offset = world.log.epoch(CHANNEL), 1
    await world.join(told)
    await world.end()
    assert [member.offset for member in world.members] == [2]


async def with_publications_that_wait(world: World, members: int) -> None:
    """A pass that is under way for a while, and behind it two publications that wait for the next one."""
    for _ in range(members):
        await world.join(None)
    world.publish(heard=True)
    await turn(2)
    world.publish(heard=True)
    world.publish(heard=True)
    assert world.channel is not None
    assert world.channel.running
    assert world.channel.pending


async def test_what_waits_for_a_pass_when_the_log_is_lost_is_not_delivered_to_who_comes_then() -> None:
    world = World()
    await with_publications_that_wait(world, 40)
    world.log.lose(CHANNEL)
    world.publish(heard=True)
    await turn(2)
    await world.join(None)
    await world.end()
    assert world.wrong == []
    assert {member.epoch for member in world.members} == {world.log.epoch(CHANNEL)}


async def test_what_waits_for_a_pass_when_the_last_one_leaves_is_not_delivered_to_who_comes_next() -> None:
    world = World()
    await with_publications_that_wait(world, 40)
    for member in list(world.members):
        world.leave(member)
    await world.join(None)
    await world.end()
    assert world.wrong == []
    assert [member.offset for member in world.members] == [3]


async def test_an_answer_from_before_everybody_left_is_not_taken_for_a_new_one() -> None:
    world = World()
    await world.join(None)
    world.log.late = True
    for _ in range(2):
        world.publish(heard=False)
    world.publish(heard=True)  # asks the log
    world.leave(world.members[0])
    world.log.late = False
    await world.join(None)  # asks it again; now both are answered
    await world.end()
    assert world.wrong == []
    assert [member.offset for member in world.members] == [3]
