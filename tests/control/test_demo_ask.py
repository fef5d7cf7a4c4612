"""Questions to the demo: who may ask, what is refused, and what one visitor can set off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from gateway.cache import AsyncCache
from gateway.clock import SystemClock
from gateway.control.demo_ask import AT_ONCE, OF_ONE, QUESTION_CHARACTERS, Asking, cache_options
from gateway.streams import Record, Streams
from tests.control.conftest import Control
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, wait_until

PATIENT = cache_options()._replace(budget_s=10.0)
"""For a busy machine: how long Redis may take is not what these tests are about."""


class SlowModel:
    """Says one word, and the second when it may."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.asked: list[str] = []

    async def __call__(self, question: str) -> AsyncIterator[str]:
        self.asked.append(question)
        yield "Well, "
        await self.may_end.wait()
        yield f"{question}!"


@pytest.fixture
def model() -> SlowModel:
    return SlowModel()


@pytest.fixture
async def asking(redis_server: RedisServer, model: SlowModel) -> AsyncIterator[Asking]:
    cache = AsyncCache(redis_server.url, options=PATIENT)
    sign = lambda user, ttl_s, channel: f"{user} {ttl_s:.0f} {channel}"  # noqa: E731
    async with Asking(cache, model, sign, SystemClock()) as asking:
        yield asking


@pytest.fixture
async def streams(redis_server: RedisServer) -> AsyncIterator[Streams]:
    async with Streams(redis_server.url) as streams:
        yield streams


@pytest.fixture
async def page(make_control: Callable[..., Control], asking: Asking) -> AsyncIterator[httpx.AsyncClient]:
    control = make_control(server={"workers": 1, "port": 8123}, control={"demo": True})
    control.asking = asking
    control.app = control.make_app()
    async with control.client(key=None) as client:
        yield client


async def ask(page: httpx.AsyncClient, question: str, user: str = "ada", **headers: str) -> httpx.Response:
    return await page.post("/demo/ask", json={"user": user, "question": question}, headers=headers)


async def until_let_in(page: httpx.AsyncClient, question: str, user: str = "ada") -> None:
    async def let_in() -> bool:
        return (await ask(page, question, user=user)).status_code != 429

    await eventually(let_in, f"{user} may ask again")


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["message"]


async def records(streams: Streams, key: str) -> list[Record]:
    return [record async for record in streams.read(key)]


async def test_the_stream_is_named_at_once_and_written_meanwhile(
    page: httpx.AsyncClient, model: SlowModel, streams: Streams
) -> None:
    answer = (await ask(page, "  who   is there ")).json()
    assert answer["level"] == "produced"
    assert answer["token"] == f"ada 3600 stream:{answer['stream']}"
    reading = asyncio.create_task(records(streams, answer["stream"]))
    model.may_end.set()
    found = await reading
    assert "".join(record.text for record in found) == "Well, who is there!"
    assert (found[-1].type, found[-1].usage["tokens"]) == ("finished", 2)


async def test_the_same_question_is_answered_once_whoever_asks(
    page: httpx.AsyncClient, model: SlowModel, streams: Streams
) -> None:
    first, second = (await ask(page, "why?")).json(), (await ask(page, " why?", user="grace")).json()
    assert (second["stream"], second["level"]) == (first["stream"], "coalesced")
    assert second["token"] == f"grace 3600 stream:{first['stream']}"
    model.may_end.set()
    await records(streams, first["stream"])
    levels = set()

    async def landed() -> Any:
        again = (await ask(page, "why?")).json()
        levels.add(again["level"])
        return again if again["level"] in ("redis", "local") else None

    again = await eventually(landed, "what is left of the flight has landed")
    assert levels <= {"coalesced", "redis", "local"}
    assert again["stream"] == first["stream"]
    assert model.asked == ["why?"]
    first_record, last = await records(streams, again["stream"])
    assert (first_record.text, last.type) == ("Well, why?!", "finished")


async def test_one_visitor_has_few_answers_under_way_and_gets_others_when_they_end(
    page: httpx.AsyncClient, model: SlowModel, streams: Streams
) -> None:
    begun = [(await ask(page, f"{number}?")).json()["stream"] for number in range(OF_ONE)]
    status, words = problem(await ask(page, "one more?"))
    assert (status, "cancel" in words) == (429, True)
    assert (await ask(page, "one more?", user="grace")).status_code == 200
    assert await streams.cancel(begun[0], by="ada")
    await until_let_in(page, "at last?")
    await wait_until(lambda: "at last?" in model.asked, "it is asked")


async def test_all_visitors_together_have_not_too_many(page: httpx.AsyncClient, model: SlowModel) -> None:
    answers = await asyncio.gather(*(ask(page, f"{number}?", user=f"u{number}") for number in range(AT_ONCE)))
    assert {answer.status_code for answer in answers} == {200}
    assert problem(await ask(page, "one more?", user="eve"))[0] == 429
    model.may_end.set()
    await until_let_in(page, "one more?", user="eve")


async def test_what_is_under_way_fails_when_the_demo_stops(
    redis_server: RedisServer, model: SlowModel, streams: Streams
) -> None:
    cache = AsyncCache(redis_server.url, options=PATIENT)
    async with Asking(cache, model, lambda *_: "", SystemClock()) as asking:
        key = (await asking.ask("ada", "why?")).stream
        await wait_until(lambda: model.asked, "it has begun")
        reading = asyncio.create_task(records(streams, key))
        await eventually(lambda: streams.status(key), "its stream is there")
    end = (await reading)[-1]
    assert (end.type, end.code) == ("failed", "producer_stopped")


@pytest.mark.parametrize(
    ("question", "says"),
    [("", "1 to"), (" \n ", "1 to"), ("x" * (QUESTION_CHARACTERS + 1), "1 to"), ("a\0b", "printable")],
)
async def test_questions_that_cannot_be(page: httpx.AsyncClient, model: SlowModel, question: str, says: str) -> None:
    status, words = problem(await ask(page, question))
    assert (status, says in words) == (400, True)
    assert not model.asked


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"user":1,"question":"x"}', b'{"user":"ada","question":"\xff"}'])
async def test_bodies_that_cannot_be(page: httpx.AsyncClient, body: bytes) -> None:
    for path in ("/demo/ask", "/demo/watch"):
        assert (await page.post(path, content=body)).status_code == 400


async def test_a_large_body_is_not_read(page: httpx.AsyncClient) -> None:
    assert (await page.post("/demo/ask", content=b"x" * 5000)).status_code == 413


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
async def test_only_pages_of_this_server_may_ask(
    page: httpx.AsyncClient, model: SlowModel, headers: dict[str, str]
) -> None:
    assert (await ask(page, "why?", **headers)).status_code == 403
    watch = await page.post("/demo/watch", json={"user": "eve", "stream": "cache-0"}, headers=headers)
    assert watch.status_code == 403
    assert not model.asked


async def test_who_has_the_name_of_an_answer_may_watch_it(page: httpx.AsyncClient) -> None:
    answer = await page.post("/demo/watch", json={"user": "grace", "stream": "cache-0a1b"})
    assert answer.json() == {"token": "grace 3600 stream:cache-0a1b"}
    for stream in ("", "cache-", "answer-17", "cache-0 ", "cache-0/..", "cache-" + "0" * 101):
        answer = await page.post("/demo/watch", json={"user": "grace", "stream": stream})
        assert answer.status_code == 400


async def test_without_streams_or_a_secret_it_says_what_is_missing(make_control: Callable[..., Control]) -> None:
    control = make_control(server={"workers": 1, "port": 8123}, control={"demo": True})
    async with control.client(key=None) as client:
        status, words = problem(await ask(client, "why?"))
        assert (status, "streams.enabled" in words) == (503, True)
        assert (await client.get("/demo/ask")).status_code == 200


async def test_it_is_off_unless_the_demo_is_on(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "why?")).status_code == 404


async def test_both_calls_are_described(page: httpx.AsyncClient) -> None:
    paths: dict[str, Any] = (await page.get("/openapi.json")).json()["paths"]
    assert {"/demo/ask", "/demo/watch"} <= paths.keys()
