"""The `redis-cli` lines of the Redis contract, run against a Redis: it takes them, and the gateway understands them."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from gateway.broker.scripts import publish_function
from protocol.position import Position
from protocol.redis_contract import Received, decode_payload
from tests.docs.markdown import Page
from tests.support.redis_server import RedisServer
from tests.support.source import ROOT

TEXT = "\n".join(fence.text for fence in Page(ROOT / "protocol/REDIS.md").fences if fence.language == "sh")
LINES = [
    line
    for line in re.sub(r"\\\n\s*", "", TEXT).replace('"$(openssl rand -hex 6)"', "0123456789ab").splitlines()
    if line.startswith("redis-cli ")
]


def arguments(line: str) -> list[str]:
    """What the shell makes of a line, `$'…'` included."""
    line = re.sub(r"\$('[^']*')", lambda found: found[1].replace("\\n", "\n"), line)
    return shlex.split(line)[1:]


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    version = (await client.info("server"))["redis_version"]
    if int(version.partition(".")[0]) < 7:
        pytest.skip(f"functions need Redis 7, this is {version}")
    await client.flushall()
    await client.execute_command("FUNCTION", "LOAD", "REPLACE", publish_function())
    yield client
    await client.execute_command("ACL", "DELUSER", "backend")
    await client.aclose()


async def run(redis: Redis, what: str) -> list[Any]:
    """Answers of the lines that contain `what`."""
    found = [arguments(line) for line in LINES if what in line]
    assert found
    return [await redis.execute_command(*words) for words in found]


async def test_every_line_is_a_command_of_redis(redis: Redis) -> None:
    for line in LINES:
        await redis.execute_command(*arguments(line))


async def test_what_is_published_is_understood(redis: Redis) -> None:
    async with redis.pubsub() as subscriber:
        await subscriber.psubscribe("gw:pub:*")
        await subscriber.get_message(timeout=10)
        await run(redis, "PUBLISH gw:pub:news")
        plain, enveloped = [await subscriber.get_message(timeout=10) for _ in range(2)]
        assert plain is not None
        assert enveloped is not None
        first, second = decode_payload(plain["data"]), decode_payload(enveloped["data"])
    assert isinstance(first, Received)
    assert isinstance(second, Received)
    assert bytes(first.publication.data) == b'{"text": "hello"}'
    assert (second.publication.tags, second.position) == ({"lang": "en"}, None)


async def test_the_function_answers_what_the_page_says(redis: Redis) -> None:
    assert await run(redis, "FCALL gw_publish") == [[1, b"0123456789ab", 1], [2, b"0123456789ab", 1]]
    again = [await redis.execute_command(*arguments(line)) for line in LINES if "gw:done:" in line and "FCALL" in line]
    assert again == [[2, b"0123456789ab", 0]]
    assert decode_payload(b"@1 2 0123456789ab -\n{}").position == Position(offset=2, epoch="0123456789ab")  # type: ignore[union-attr]


async def test_a_user_with_the_rights_of_the_page_may_publish_and_nothing_else(redis: Redis) -> None:
    await run(redis, "ACL SETUSER")
    await redis.execute_command("AUTH", "backend", "a-long-password")
    try:
        await run(redis, "FCALL gw_publish")
        await run(redis, "PUBLISH gw:pub:news")
        with pytest.raises(NoPermissionError):
            await run(redis, "PUBLISH gw:control")
    finally:
        await redis.connection_pool.disconnect()
