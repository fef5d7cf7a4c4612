"""The position of a channel on its own: answers of the log come when the test says."""

from __future__ import annotations

import asyncio

from msgspec import Raw

from gateway.broker import Page
from gateway.clock import FakeClock
from gateway.config import Namespace
from gateway.hub.channel import Channel
from gateway.hub.feed import Feed
from gateway.metrics import names
from protocol.position import Position
from protocol.replies import Publication
from tests.hub.test_recovery_cases import with_publications_that_wait
from tests.hub.test_recovery_model import World
from tests.support.hub import turn


class ScriptedLog:
    """Answers nothing by itself."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Page]] = []

    def read(self, channel: str, *, after: int, limit: int) -> asyncio.Future[Page]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class Owner:
    def __init__(self) -> None:
        self.taken: list[int] = []
        self.lost = 0

    def take(self, channel: Channel, publication: Publication, size: int) -> None:
        self.taken.append(publication.offset)

    def has_room(self, channel: Channel) -> bool:
        return True

    def found(self, feed: Feed) -> None: ...

    def too_short(self, channel: Channel) -> None:
        self.lost += 1

    def healed(self, channel: Channel, publications: int) -> None: ...


def make_feed() -> tuple[Feed, ScriptedLog, Owner]:
    log, owner = ScriptedLog(), Owner()
    channel = Channel("news", b"gw:pub:news", Namespace(history_size=10, history_ttl_s=60))
    channel.feed = Feed(channel, log, owner, FakeClock())
    return channel.feed, log, owner


def page(epoch: str, top: int, *offsets: int) -> Page:
    return Page([Publication(data=Raw(b"1"), offset=each) for each in offsets], Position(offset=top, epoch=epoch))


async def test_an_answer_from_before_everybody_left_is_not_taken_for_the_new_position() -> None:
    feed, log, owner = make_feed()
    feed.heal()
    feed.forget()
    feed.heal()
    before, now = log.asked
    before.set_result(page("one", 3))
    await turn(3)
    assert not feed.known
    now.set_result(page("one", 5))
    await turn(3)
    assert (feed.epoch, feed.top, feed.healing) == ("one", 5, False)
    assert not owner.lost


async def test_after_a_loss_nothing_of_the_life_before_is_kept_in_memory() -> None:
    feed, log, owner = make_feed()
    feed.heal()
    log.asked[-1].set_result(page("one", 3))
    await turn(3)
    fetched = feed.recent.fetch(0)
    assert isinstance(fetched, asyncio.Task)
    await turn(3)
    log.asked[-1].set_result(page("one", 3, 1, 2, 3))
    assert [each.offset for each in await fetched] == [1, 2, 3]
    assert feed.recent.in_memory
    feed.heal()
    log.asked[-1].set_result(page("two", 7))
    await turn(3)
    assert (owner.lost, feed.epoch, feed.top) == (1, "two", 7)
    assert not feed.recent.in_memory


async def test_what_waits_for_a_pass_goes_with_the_last_who_leaves() -> None:
    world = World()
    await with_publications_that_wait(world, 40)
    assert world.hub.counters[names.QUEUED_BYTES] > 0
    for member in list(world.members):
        world.leave(member)
    assert world.hub.counters[names.QUEUED_BYTES] == 0
