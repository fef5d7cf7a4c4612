"""Methods that read and write what a real Redis keeps: history, presence, channels, nodes, revocations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from gateway.broker import CommandQueue, PresenceStore, RevocationStore
from gateway.config import Redis as RedisSettings
from gateway.control import reading, surveys
from gateway.metrics.names import CHANNELS, CLIENTS, OP_CONNECT, SUBSCRIPTIONS, USERS
from gateway.storage.redis import connect
from protocol.control_messages import Revoked, Survey, SurveyPage, decode_control, encode_page
from protocol.replies import ClientInfo
from tests.control.conftest import Control
from tests.support.redis_server import RedisServer

NAMESPACES = {
    "kept": {"history_size": 5000, "history_ttl_s": 60},
    "seen": {"presence": True},
    "plain": {},
}


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def queue(redis_server: RedisServer) -> AsyncIterator[CommandQueue]:
    client = connect(RedisSettings(url=redis_server.url))
    queue = CommandQueue(client)
    running = asyncio.create_task(queue.run())
    yield queue
    running.cancel()
    await client.aclose()


@pytest.fixture
def control(make_control: Callable[..., Control], queue: CommandQueue) -> Control:
    return make_control(queue, namespaces=NAMESPACES)


async def result(client: httpx.AsyncClient, method: str, **request: Any) -> Any:
    answer = (await client.post(f"/api/{method}", json=request)).json()
    assert "result" in answer, answer
    return answer["result"]


async def error(client: httpx.AsyncClient, method: str, **request: Any) -> tuple[int, str]:
    problem = (await client.post(f"/api/{method}", json=request)).json()["error"]
    return problem["code"], problem["message"]


# Publishing with history.


async def test_a_publication_gets_an_offset_and_is_in_the_history(client: httpx.AsyncClient) -> None:
    first = await result(client, "publish", channel="kept:a", data={"n": 1}, tags={"lang": "de"})
    second = await result(client, "publish", channel="kept:a", data=2)
    assert (first["offset"], second["offset"]) == (1, 2)
    assert first["epoch"] == second["epoch"]
    history = await result(client, "history", channel="kept:a", limit=-1)
    assert history == {
        "publications": [
            {"data": {"n": 1}, "offset": 1, "tags": {"lang": "de"}},
            {"data": 2, "offset": 2},
        ],
        "offset": 2,
        "epoch": first["epoch"],
    }


async def test_an_idempotency_key_publishes_once(client: httpx.AsyncClient) -> None:
    first = await result(client, "publish", channel="kept:a", data=1, idempotency_key="k")
    assert await result(client, "publish", channel="kept:a", data=1, idempotency_key="k") == first
    assert (await result(client, "history", channel="kept:a"))["offset"] == 1


async def test_an_older_version_is_not_published(client: httpx.AsyncClient) -> None:
    await result(client, "publish", channel="kept:a", data="new", version=7)
    await result(client, "publish", channel="kept:a", data="old", version=6)
    history = await result(client, "history", channel="kept:a", limit=-1)
    assert [each["data"] for each in history["publications"]] == ["new"]


async def test_without_history_it_is_published_all_the_same(client: httpx.AsyncClient, redis: Redis) -> None:
    assert await result(client, "publish", channel="kept:a", data=1, skip_history=True) == {}
    assert (await result(client, "history", channel="kept:a", limit=-1))["publications"] == []
    assert await error(client, "publish", channel="kept:a", data=1, skip_history=True, version=1) == (
        108,
        "not available: version: needs a channel with history, and skip_history not set",
    )


async def test_a_broadcast_answers_for_each_channel(client: httpx.AsyncClient) -> None:
    answer = await result(
        client, "broadcast", channels=["kept:a", "plain:b", "nowhere:c", "kept:a", "a b"], data=1, idempotency_key=""
    )
    responses = answer["responses"]
    assert [response.get("result", {}).get("offset") for response in responses] == [1, None, None, 2, None]
    assert responses[1] == {"result": {}}
    assert [response.get("error", {}).get("code") for response in responses] == [None, None, 102, None, 107]


async def test_a_broadcast_has_bounds(client: httpx.AsyncClient) -> None:
    assert (await error(client, "broadcast", channels=[], data=1))[0] == 107
    assert (await error(client, "broadcast", channels=["plain:a"] * 1001, data=1))[0] == 106
    assert (await error(client, "broadcast", channels=["plain:a"]))[1].startswith("bad request: data: is missing")


# History.


async def test_history_is_read_by_position_and_limit_in_both_directions(client: httpx.AsyncClient) -> None:
    for number in range(1, 6):
        await result(client, "publish", channel="kept:a", data=number)

    async def offsets(**request: Any) -> list[int]:
        return [
            each["offset"] for each in (await result(client, "history", channel="kept:a", **request))["publications"]
        ]

    assert await offsets() == []
    assert await offsets(limit=2) == [1, 2]
    assert await offsets(limit=-1, since={"offset": 3}) == [4, 5]
    assert await offsets(limit=-1, reverse=True) == [5, 4, 3, 2, 1]
    assert await offsets(limit=2, reverse=True, since={"offset": 4}) == [3, 2]
    assert await offsets(limit=-1, reverse=True, since={"offset": 1}) == []
    assert await offsets(limit=100, since={"offset": 5}) == []


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [-1, 7, 6, 5, 1])
async def test_a_history_longer_than_a_page_comes_whole(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, limit: int, reverse: bool
) -> None:
    monkeypatch.setattr(reading, "PAGE", 3)
    for number in range(1, 8):
        await result(client, "publish", channel="kept:a", data=number)
    history = await result(client, "history", channel="kept:a", limit=limit, reverse=reverse)
    expected = list(range(7, 0, -1)) if reverse else list(range(1, 8))
    assert [each["data"] for each in history["publications"]] == expected[: limit if limit > 0 else None]
    assert history["offset"] == 7


async def test_what_cannot_be_read_is_refused(client: httpx.AsyncClient) -> None:
    await result(client, "publish", channel="kept:a", data=1)
    assert (await error(client, "history", channel="plain:a"))[0] == 108
    assert (await error(client, "history", channel="kept:a", limit=-2))[1].startswith("bad request: limit:")
    assert (await error(client, "history", channel="kept:a", since={"offset": -1}))[1].startswith("bad request: since.")
    assert (await error(client, "history", channel="kept:a", limit=1, since={"offset": 0, "epoch": "other"}))[0] == 112
    assert (await error(client, "history_remove", channel="plain:a"))[0] == 108


async def test_what_is_removed_is_gone_and_the_position_stays(client: httpx.AsyncClient) -> None:
    first = await result(client, "publish", channel="kept:a", data=1)
    assert await result(client, "history_remove", channel="kept:a") == {}
    history = await result(client, "history", channel="kept:a", limit=-1)
    assert history == {"publications": [], "offset": 1, "epoch": first["epoch"]}


# Presence.


async def test_presence_is_read_whole_in_chunks(client: httpx.AsyncClient, queue: CommandQueue) -> None:
    store = PresenceStore(queue, prefix="gw", lease_s=60)
    assert await result(client, "presence", channel="seen:a") == {"presence": {}}
    everybody = {f"c{number}": ClientInfo(user=f"u{number % 3}", client=f"c{number}") for number in range(2500)}
    await store.enter("seen:a", everybody, tell=False)
    answer = await result(client, "presence", channel="seen:a")
    assert answer["presence"] == {client: {"user": info.user, "client": client} for client, info in everybody.items()}
    assert await result(client, "presence_stats", channel="seen:a") == {"num_clients": 2500, "num_users": 3}
    assert (await error(client, "presence", channel="plain:a"))[0] == 108
    assert (await error(client, "presence_stats", channel=""))[0] == 107


# Channels.


class FakeWorkers:
    """Workers that answer surveys."""

    def __init__(self, redis: Redis, pages: list[SurveyPage]) -> None:
        self.redis = redis
        self.pages = pages
        self.asked: list[Survey] = []

    async def __aenter__(self) -> FakeWorkers:
        self._listener = self.redis.pubsub()
        await self._listener.subscribe("gw:control")
        await self._listener.get_message(timeout=10)
        self._running = asyncio.create_task(self._answer())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await self._listener.aclose()  # type: ignore[no-untyped-call]

    async def _answer(self) -> None:
        async for message in self._listener.listen():
            survey = decode_control(message["data"])
            assert isinstance(survey, Survey)
            self.asked.append(survey)
            for page in self.pages:
                await self.redis.rpush(survey.reply_to, encode_page(page))


async def test_channels_of_all_workers_are_summed_up(client: httpx.AsyncClient, redis: Redis) -> None:
    code, message = await error(client, "channels")  # as if nobody were anywhere: that is not known
    assert (code, "no worker listens" in message) == (100, True)
    pages = [
        SurveyPage(worker="a", channels={"one": 1, "two": 2}),
        SurveyPage(worker="a", channels={"three": 3}, last=True),
    ]
    async with FakeWorkers(redis, pages) as workers:
        found = await result(client, "channels", pattern="*o*")
        assert found == {
            "channels": {"one": {"num_clients": 1}, "three": {"num_clients": 3}, "two": {"num_clients": 2}}
        }
        assert workers.asked[0].pattern == "*o*"
        assert await redis.keys("gw:survey:*") == []


async def test_a_worker_that_does_not_answer_makes_it_an_error(
    client: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "TIMEOUT_S", 0.05)
    async with FakeWorkers(redis, [SurveyPage(worker="a", channels={"one": 1})]):
        code, message = await error(client, "channels")
    assert code == 100
    assert "0 of 1 workers" in message


async def test_too_many_channels_are_an_error(
    client: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "MAX_CHANNELS", 2)
    channels = {"one": 1, "two": 2, "three": 3}
    async with FakeWorkers(redis, [SurveyPage(worker="a", channels=channels, last=True)]):
        assert (await error(client, "channels"))[0] == 106
    assert (await error(client, "channels", pattern="*" * 256))[0] == 107


# Nodes.


async def test_workers_of_all_nodes_are_listed(control: Control, client: httpx.AsyncClient, redis: Redis) -> None:
    row = control.start_worker(1)
    row[CLIENTS], row[USERS], row[SUBSCRIPTIONS], row[CHANNELS] = 7, 5, 14, 3
    other = {"uid": "elsewhere/edge-1", "name": "b/edge-1", "num_clients": 1, "at": control.clock.time()}
    stale = {"uid": "stale/edge-1", "name": "c/edge-1", "at": control.clock.time() - 16}
    gone = {"uid": "gone/edge-1", "name": "d/edge-1", "at": control.clock.time() - 61}
    for entry in (other, stale, gone):
        await redis.hset("gw:nodes", str(entry["uid"]), json.dumps(entry))
    await control.nodes.write()
    nodes = (await result(client, "info"))["nodes"]
    assert [node["uid"] for node in nodes] == ["elsewhere/edge-1", "node/edge-2"]
    mine = nodes[1]
    assert (mine["num_clients"], mine["num_users"], mine["num_subs"], mine["num_channels"]) == (7, 5, 14, 3)
    assert mine["version"]
    assert set(await redis.hkeys("gw:nodes")) == {b"elsewhere/edge-1", b"stale/edge-1", b"node/edge-2"}
    assert 0 < await redis.ttl("gw:nodes") <= 60


async def test_info_says_how_long_operations_take_like_the_method_latency(
    control: Control, client: httpx.AsyncClient
) -> None:
    control.recorder(0).record(OP_CONNECT, 0.3, "", "42")
    info = await result(client, "info")
    assert [each["user"] for each in info["latency"]["slow"]] == ["42"]
    assert [each["count"] for each in info["latency"]["operations"] if each["operation"] == "connect"] == [1]
    same = await result(client, "latency")
    assert info["latency"]["slow"] == same["slow"]


# Revocations.


async def test_revocations_are_remembered(control: Control, client: httpx.AsyncClient, queue: CommandQueue) -> None:
    now = 4_000_000_000.0
    control.clock.advance(now - control.clock.time())
    assert await result(client, "revoke_token", uid="t", expire_at=now + 60) == {}
    assert await result(client, "invalidate_user_tokens", user="42") == {}
    assert await result(client, "invalidate_user_tokens", issued_before=now - 5, expire_at=now + 9) == {}
    found = [each async for chunk in RevocationStore(queue, prefix="gw").read() for each in chunk]
    assert sorted(found, key=lambda each: each.expire_at) == [
        Revoked(issued_before=now - 5, expire_at=now + 9),
        Revoked(token_id="t", expire_at=now + 60),
        Revoked(user="42", issued_before=now, expire_at=now + 30 * 86_400),
    ]


# Batches.


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_answers_each_command(client: httpx.AsyncClient, parallel: bool) -> None:
    await result(client, "publish", channel="kept:a", data=1)
    commands = [
        {"publish": {"channel": "kept:b", "data": 1}},
        {"history": {"channel": "kept:a", "limit": -1}},
        {"publish": {"channel": "nowhere:a", "data": 1}},
        {"nonsense": {}},
        {"rpc": {"method": "x"}},
        {"batch": {"commands": []}},
        {},
        {"presence_stats": {"channel": "seen:a"}},
    ]
    answer = (await client.post("/api/batch", json={"commands": commands, "parallel": parallel})).json()
    replies = answer["replies"]
    assert replies[0]["publish"]["offset"] == 1
    assert replies[1]["history"]["publications"] == [{"data": 1, "offset": 1}]
    assert [reply["error"]["code"] for reply in replies[2:7]] == [102, 104, 108, 104, 107]
    assert replies[7] == {"presence_stats": {"num_clients": 0, "num_users": 0}}


async def test_a_batch_has_bounds(client: httpx.AsyncClient) -> None:
    assert (await error(client, "batch", commands=[{"info": {}}] * 1001))[0] == 106
    assert (await client.post("/api/batch", json={})).json() == {"replies": []}
