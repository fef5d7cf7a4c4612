"""Calls at the edge: what is just too much, nearly right, or would do more than was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.broker import CommandQueue
from gateway.config import Config
from gateway.config import Redis as RedisSettings
from gateway.control.fields import MAX_CHANNEL_LENGTH
from gateway.storage.redis import connect
from protocol.control_messages import decode_control
from tests.control.conftest import KEY, Control
from tests.support.redis_server import RedisServer

LIMITED = "limited-key-0123456"
SECTIONS: dict[str, Any] = {
    "control": {"api_keys": [KEY], "keys": [{"name": "limited", "key": LIMITED, "namespaces": ["chat"]}]},
    "namespaces": {"chat": {}, "plain": {}, "kept": {"history_size": 5000, "history_ttl_s": 60}},
}
DAY_S = 86_400


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def live(redis_server: RedisServer, make_control: Callable[..., Control]) -> AsyncIterator[Control]:
    """On a real Redis, at today's time."""
    client = connect(RedisSettings(url=redis_server.url))
    queue = CommandQueue(client)
    running = asyncio.get_running_loop().create_task(queue.run())
    control = make_control(queue, **SECTIONS)
    control.clock.now = time.time()
    yield control
    running.cancel()
    await asyncio.wait([running])
    await client.aclose()


async def call(control: Control, method: str, *, key: str = KEY, **request: Any) -> Any:
    async with control.client(key=key) as client:
        return (await client.post(f"/api/{method}", json=request)).json()


async def error(control: Control, method: str, **request: Any) -> tuple[int, str]:
    problem = (await call(control, method, **request))["error"]
    return problem["code"], problem["message"]


# Keys


@pytest.mark.parametrize("length", [255, 256, MAX_CHANNEL_LENGTH])
async def test_a_limited_key_is_limited_for_long_names_too(make_control: Callable[..., Control], length: int) -> None:
    control = make_control(**SECTIONS, limits={"channel_length": MAX_CHANNEL_LENGTH})
    channel = "plain:".ljust(length, "x")
    assert (await call(control, "publish", key=LIMITED, channel=channel, data=1))["error"]["code"] == 103
    assert control.redis.published == []
    assert await call(control, "publish", channel=channel, data=1) == {"result": {}}


def test_no_configuration_allows_longer_names_than_keys_look_at() -> None:
    with pytest.raises(ValueError, match="channel_length"):
        Config.model_validate({"limits": {"channel_length": MAX_CHANNEL_LENGTH + 1}})


def test_a_key_is_limited_or_it_is_not() -> None:
    keys = [{"name": "limited", "key": KEY, "namespaces": ["chat"]}]
    with pytest.raises(ValueError, match='the key "limited" is also one of api_keys'):
        Config.model_validate({"control": {"api_keys": [KEY], "keys": keys}})


# Times


IN_MILLISECONDS = 1_800_000_000_000
"""A time of 2027, in the wrong unit."""


@pytest.mark.parametrize("expire_at", [1e300, 1e15, IN_MILLISECONDS])
@pytest.mark.parametrize("method", ["revoke_token", "invalidate_user_tokens", "refresh", "subscribe"])
async def test_what_is_no_time_in_seconds_is_refused(live: Control, method: str, expire_at: float) -> None:
    request = {"uid": "t1", "user": "42", "channel": "news"} if method != "invalidate_user_tokens" else {"user": "42"}
    assert await error(live, method, **request, expire_at=expire_at) == (
        107,
        "bad request: expire_at: is not a time in seconds since 1970",
    )


async def test_after_a_wrong_time_revocations_work_as_before(live: Control, redis: Redis) -> None:
    assert (await error(live, "revoke_token", uid="t1", expire_at=1e300))[0] == 107
    assert await call(live, "revoke_token", uid="t2", expire_at=live.clock.now + DAY_S) == {"result": {}}
    assert [decode_control(each).token_id for each in await redis.hvals("gw:revoked")] == ["t2"]  # type: ignore[union-attr]
    assert 0 < await redis.ttl("gw:revoked") <= DAY_S + 2


async def test_tokens_of_one_channel_are_not_taken_for_all_of_the_user(live: Control, redis: Redis) -> None:
    assert await error(live, "invalidate_user_tokens", user="42", channel="news") == (
        108,
        "not available: channel: subscription tokens are not revoked by channel",
    )
    assert not await redis.exists("gw:revoked")


# Positions


@pytest.mark.parametrize("offset", [-1, 2**63, 2**70])
async def test_an_offset_that_cannot_be_names_its_field(live: Control, offset: int) -> None:
    code, message = await error(live, "history", channel="kept:a", limit=1, since={"offset": offset})
    assert (code, message.startswith("bad request: since.offset: ")) == (107, True)
    code, message = await error(live, "subscribe", user="42", channel="kept:a", recover_since={"offset": offset})
    assert (code, message.startswith("bad request: recover_since.offset: ")) == (107, True)
    assert "result" in await call(live, "history", channel="kept:a", limit=1, since={"offset": 2**63 - 1})


# Sizes


async def test_what_workers_do_not_take_is_not_logged(
    live: Control, redis: Redis, make_control: Callable[..., Control]
) -> None:
    """A worker measures the whole envelope: no publication may be logged whose envelope is too large for it."""
    limit = 2048
    control = make_control(live.queue, **SECTIONS, limits={"publication_bytes": limit})
    largest = 0
    listener = redis.pubsub()
    await listener.subscribe("gw:pub:kept:a")
    assert (await listener.get_message(timeout=20))["type"] == "subscribe"
    for size in range(limit - 300, limit, 10):
        answer = await call(control, "publish", channel="kept:a", data="x" * size, tags={"k": "v"})
        if "result" in answer:
            largest = len((await listener.get_message(timeout=20))["data"])
            assert largest <= limit
        else:
            assert answer["error"]["message"].startswith("bad request: data: makes")
    await listener.aclose()
    assert largest > limit - 200
    assert (await error(control, "publish", channel="kept:a", data="x" * (limit - 2)))[0] == 107
    assert await call(control, "publish", channel="plain:a", data="x" * (limit - 2)) == {"result": {}}


async def test_a_broadcast_of_much_data_reaches_every_channel(live: Control) -> None:
    channels = [f"kept:{number}" for number in range(100)]
    answer = await call(live, "broadcast", channels=channels, data="x" * 1_000_000)  # more than may wait for Redis
    assert [response["result"]["offset"] for response in answer["result"]["responses"]] == [1] * 100


# Workers


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("disconnect", {"user": "42"}),
        ("refresh", {"user": "42"}),
        ("subscribe", {"user": "42", "channel": "news"}),
        ("unsubscribe", {"user": "42", "channel": "news"}),
        ("channels", {}),
    ],
)
async def test_when_no_worker_hears_it_the_caller_learns_so(
    make_control: Callable[..., Control], method: str, request_: dict[str, Any]
) -> None:
    control = make_control(**SECTIONS)
    control.redis.listeners = 0
    code, message = await error(control, method, **request_)
    assert (code, "temporary, no worker listens to Redis" in message) == (100, True)


async def test_an_entry_of_another_version_does_not_take_the_list_of_nodes_away(live: Control, redis: Redis) -> None:
    live.start_worker(0)
    await live.nodes.write()
    await redis.hset("gw:nodes", mapping={"n9/edge-1": '{"uid": 9}', "x": "no JSON", "y": b"\xff"})
    assert [node["uid"] for node in (await call(live, "info"))["result"]["nodes"]] == ["node/edge-1"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"code": 3011}, "force reconnect"),
        ({"code": 4000}, ""),
        ({"code": 4000, "reason": "bye"}, "bye"),
        ({}, "force disconnect"),
        (None, "force disconnect"),
    ],
)
async def test_a_code_without_a_reason_gets_its_own(control: Control, given: Any, reason: str) -> None:
    await call(control, "disconnect", user="42", **({"disconnect": given} if given is not None else {}))
    ((_, payload),) = control.redis.published
    assert decode_control(payload).reason == reason  # type: ignore[union-attr]
