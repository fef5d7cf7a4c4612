"""channels: a question to every worker over a real Redis. The workers are played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.control import survey
from protocol.control_messages import SURVEY_PAGE, Survey, SurveyPage, decode_control
from tests.control.conftest import Control, eventually
from tests.support.waiting import wait_until


class FakeWorkers:
    """Listen as workers do. `answers`: what each pushes onto the list, page by page."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._tasks: list[asyncio.Task[None]] = []
        self.asked: list[Survey] = []

    async def add(self, *pages: SurveyPage | bytes) -> None:
        listener = self._redis.pubsub()
        await listener.subscribe("gw:control")
        assert (await listener.get_message(timeout=20))["type"] == "subscribe"

        async def answer() -> None:
            async for message in listener.listen():
                asked = decode_control(message["data"])
                assert isinstance(asked, Survey)
                self.asked.append(asked)
                for page in pages:
                    payload = page if isinstance(page, bytes) else msgspec.json.encode(page)
                    await self._redis.rpush(asked.reply_to, payload)
                await self._redis.expire(asked.reply_to, 60)

        self._tasks.append(asyncio.get_running_loop().create_task(answer()))

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@pytest.fixture
async def workers(redis: Redis) -> AsyncIterator[FakeWorkers]:
    workers = FakeWorkers(redis)
    yield workers
    await workers.aclose()


async def no_list_is_left(redis: Redis) -> bool:
    async def gone() -> bool:
        return not await redis.keys("gw:survey:*")

    await eventually(gone, "the list of answers is deleted")
    return True


# The clock of `live` stands still: nobody is too late unless a test moves it.


async def test_the_numbers_of_all_workers_are_added_up(live: Control, workers: FakeWorkers, redis: Redis) -> None:
    await workers.add(SurveyPage("n1/edge-1", {"a": 2, "b": 1}), SurveyPage("n1/edge-1", {"c": 1}, last=True))
    await workers.add(SurveyPage("n1/edge-2", {"a": 3}, last=True))
    await workers.add(SurveyPage("n2/edge-1", {}, last=True))
    assert await live.result("channels", pattern="x:*") == {
        "channels": {"a": {"num_clients": 5}, "b": {"num_clients": 1}, "c": {"num_clients": 1}}
    }
    assert [asked.pattern for asked in workers.asked] == ["x:*"] * 3
    assert await no_list_is_left(redis)


@pytest.mark.parametrize("request_", [{}, {"pattern": ""}])
async def test_without_a_pattern_all_are_asked_for(
    live: Control, workers: FakeWorkers, request_: dict[str, Any]
) -> None:
    await workers.add(SurveyPage("w", {}, last=True))
    assert await live.result("channels", **request_) == {"channels": {}}
    assert [asked.pattern for asked in workers.asked] == ["*"]


async def test_many_pages_arrive_whole(live: Control, workers: FakeWorkers) -> None:
    pages = [SurveyPage("w", {f"c{page}-{n}": 1 for n in range(SURVEY_PAGE)}, last=page == 29) for page in range(30)]
    await workers.add(*pages)
    channels = (await live.result("channels"))["channels"]
    assert len(channels) == 30 * SURVEY_PAGE
    assert channels["c29-999"] == {"num_clients": 1}


async def test_too_many_channels_are_error_106_and_the_list_goes(
    live: Control, workers: FakeWorkers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "MAX_CHANNELS", 1500)
    await workers.add(*[SurveyPage("w", {f"{page}-{n}": 1 for n in range(1000)}, last=page == 1) for page in range(2)])
    code, message = await live.error("channels")
    assert code == 106
    assert "narrow the pattern" in message
    assert await no_list_is_left(redis)


async def test_a_worker_that_does_not_answer_makes_it_an_error_with_the_count(
    live: Control, workers: FakeWorkers, redis: Redis
) -> None:
    await workers.add(SurveyPage("n1/edge-1", {"a": 1}, last=True))
    await workers.add(SurveyPage("n1/edge-2", {"a": 1}))  # never its last
    await workers.add(b"not a page")

    async def time_passes() -> None:
        await wait_until(lambda: len(workers.asked) == 3, "all are asked")
        live.clock.advance(survey.ANSWERED_WITHIN_S)

    passing = asyncio.get_running_loop().create_task(time_passes())
    code, message = await live.error("channels")
    await passing
    assert code == 100
    assert "of 3 workers answered within 2 s" in message
    assert await no_list_is_left(redis)


async def test_when_no_worker_listens_that_is_no_empty_answer(live: Control) -> None:
    code, message = await live.error("channels")
    assert code == 100
    assert "no worker listens" in message


async def test_a_pattern_without_end_is_refused(live: Control) -> None:
    code, message = await live.error("channels", pattern="*" * 1025)
    assert (code, message.startswith("bad request: pattern: ")) == (107, True)
