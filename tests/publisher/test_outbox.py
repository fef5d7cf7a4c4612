"""The order of publications, and which of them go out again, on a Redis made of futures."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.broker import CommandQueue
from gateway.broker.backoff import Backoff
from gateway.errors import BrokerBusy, BrokerError, BrokerRefused, BrokerUnavailable, PublisherClosed, PublishFailed
from gateway.publisher import History, outbox
from gateway.publisher.messages import Prepared
from gateway.publisher.outbox import WINDOW, Outbox
from gateway.publisher.sending import Sender
from protocol.position import Position
from protocol.redis_contract import Metadata
from tests.support.waiting import wait_until


def publication(name: str, *, key: str | None = None) -> Prepared:
    """One with history unless `key` is ""."""
    key = name if key is None else key
    return Prepared(
        channel=name,
        payload=b"1",
        metadata=Metadata(),
        history=History(1, 1) if key else None,
        key=key,
        version=0,
        version_epoch="",
    )


class World:
    """An outbox in front of a Redis that answers when the test says so."""

    def __init__(self, *, retry_for_s: float = 10.0) -> None:
        self.sent: list[str] = []
        self.under_way: list[asyncio.Future[Position | None]] = []
        self.outbox = Outbox(self._send, Backoff(0.001, 0.001, lambda: 1.0), retry_for_s=retry_for_s)
        self.task = asyncio.get_running_loop().create_task(self.outbox.run())

    def _send(self, prepared: Prepared) -> asyncio.Future[Position | None]:
        self.sent.append(prepared.channel)
        self.under_way.append(asyncio.get_running_loop().create_future())
        return self.under_way[-1]

    def put(self, *names: str, **options: Any) -> list[asyncio.Future[Position | None]]:
        return [self.outbox.put(publication(name, **options)) for name in names]

    async def answer(self, error: BrokerError | None = None, *, number: int = 1) -> None:
        """Answer what is under way, once there are `number` of them."""
        await wait_until(lambda: len(self.under_way) >= number, f"{number} publications are sent")
        under_way, self.under_way = self.under_way, []
        for future in under_way:
            if error is None:
                future.set_result(Position(offset=1, epoch="e"))
            else:
                future.set_exception(error)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.task.cancel()
    await asyncio.gather(world.task, return_exceptions=True)


async def test_what_arrives_during_a_round_trip_leaves_together_in_the_next(world: World) -> None:
    world.put("a")
    await wait_until(lambda: world.sent == ["a"], "the first is sent")
    world.put("b", "c")
    assert world.sent == ["a"]
    await world.answer()
    await wait_until(lambda: world.sent == ["a", "b", "c"], "the others are sent")
    assert len(world.under_way) == 2


async def test_one_window_at_a_time_is_under_way(world: World) -> None:
    futures = world.put(*(str(number) for number in range(WINDOW + 1)))
    await wait_until(lambda: len(world.sent) == WINDOW, "a window is sent")
    await world.answer(number=WINDOW)
    await world.answer()
    await asyncio.gather(*futures)
    assert world.sent == [str(number) for number in range(WINDOW + 1)]


async def test_what_has_a_key_goes_out_again_before_anything_newer(world: World) -> None:
    first = world.put("a", "b")
    await wait_until(lambda: len(world.sent) == 2, "both are sent")
    second = world.put("c")
    await world.answer(BrokerUnavailable("gone"))
    await world.answer(number=3)
    await asyncio.gather(*first, *second)
    assert world.sent == ["a", "b", "a", "b", "c"]


async def test_what_has_no_key_is_sent_once_and_fails_with_the_connection(world: World) -> None:
    (bare,) = world.put("bare", key="")
    (logged,) = world.put("logged")
    await world.answer(BrokerUnavailable("gone"), number=2)
    with pytest.raises(PublishFailed, match="gone") as caught:
        await bare
    assert (caught.value.attempts, caught.value.channel) == (1, "bare")
    assert isinstance(caught.value, BrokerUnavailable)
    await world.answer()
    await logged
    assert world.sent == ["bare", "logged", "logged"]


async def test_a_refusal_is_final_and_concerns_nobody_else(world: World) -> None:
    refused, taken = world.put("refused", "taken")
    await wait_until(lambda: len(world.under_way) == 2, "both are sent")
    world.under_way[0].set_exception(BrokerRefused("no memory"))
    world.under_way[1].set_result(Position(offset=7, epoch="e"))
    with pytest.raises(BrokerRefused, match="no memory"):
        await refused
    assert await taken == Position(offset=7, epoch="e")
    assert world.sent == ["refused", "taken"]


async def test_after_its_time_a_publication_is_given_up_and_later_ones_go_on() -> None:
    world = World(retry_for_s=0.05)
    (early,) = world.put("early")
    while not early.done():
        await world.answer(BrokerUnavailable("gone"))
        await asyncio.sleep(0)
        await wait_until(lambda: early.done() or bool(world.under_way), "it is given up or sent again")
    with pytest.raises(PublishFailed, match="gone") as caught:
        await early
    assert caught.value.attempts > 1
    assert caught.value.waited_s >= 0.05
    (late,) = world.put("late")
    await world.answer()
    assert await late == Position(offset=1, epoch="e")
    world.task.cancel()
    await asyncio.gather(world.task, return_exceptions=True)


async def test_a_cancelled_caller_takes_its_publication_along_and_nobody_elses(world: World) -> None:
    (first,) = world.put("first")
    await wait_until(lambda: world.sent == ["first"], "the first is sent")
    second, third = world.put("second", "third")
    first.cancel()
    second.cancel()
    await world.answer(BrokerUnavailable("gone"))
    await world.answer()
    await third
    assert world.sent == ["first", "third"]


async def test_too_much_at_once_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 2)
    world.put("a", "b")
    with pytest.raises(BrokerBusy) as caught:
        world.put("c")
    assert caught.value.waiting == 2
    await world.answer(number=2)
    world.put("c")


async def test_too_many_bytes_at_once_are_refused_and_what_left_does_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 3)
    for _ in range(5):
        futures = world.put("a", "b", "c")
        with pytest.raises(BrokerBusy):
            world.put("d")
        await world.answer(BrokerUnavailable("gone"), number=3)
        await world.answer(number=3)
        await asyncio.gather(*futures)


async def test_large_publications_leave_in_several_windows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WINDOW_BYTES", 2)
    futures = world.put("a", "b", "c")
    await wait_until(lambda: bool(world.sent), "the first are sent")
    assert world.sent == ["a", "b"]
    await world.answer()
    await world.answer()
    await asyncio.gather(*futures)


async def test_closing_refuses_new_ones_and_waits_for_the_others(world: World) -> None:
    (accepted,) = world.put("accepted")
    world.outbox.refuse("closed")
    with pytest.raises(PublisherClosed, match="closed"):
        world.put("late")
    empty = asyncio.create_task(world.outbox.wait_empty())
    await world.answer(BrokerUnavailable("gone"))
    await asyncio.sleep(0)
    assert not empty.done()
    await world.answer()
    await empty
    assert accepted.done()


async def test_when_it_is_stopped_nobody_waits_forever(world: World) -> None:
    (first,) = world.put("first")
    await wait_until(lambda: world.sent == ["first"], "the first is sent")
    (second,) = world.put("second")
    world.task.cancel()
    for future, attempts in ((first, 1), (second, 0)):
        with pytest.raises(PublishFailed) as caught:
            await future
        assert caught.value.attempts == attempts
    with pytest.raises(PublisherClosed):
        world.put("third")


async def test_nobody_has_to_wait_for_a_publication_that_fails() -> None:
    """A relay that is stopped while it publishes leaves its publications to a queue that is stopped as well."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    queue = CommandQueue(None)
    running = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    sender = Sender(queue, "gw")
    left = [sender.send(publication("log")), sender.send(publication("plain", key=""))]
    running.cancel()
    await asyncio.wait((running, *left))
    assert all(each.done() for each in left)
    left.clear()
    gc.collect()
    assert said == []
