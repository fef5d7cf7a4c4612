"""Publishers in front of a real Redis, and what that Redis then has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis

from gateway.publisher import AsyncPublisher, History, Publisher
from protocol.redis_contract import log_key
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import RedisServer

NAMESPACES = {"default": None, "chat": History(100_000, 600.0)}
"""Channels `chat:…` have a log that keeps everything."""


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    """A client of the test's own."""
    with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def logged(redis: Redis) -> Callable[[str], list[Any]]:
    """Data of all publications in a channel's log, oldest first. Fails when their offsets have holes."""

    def read(channel: str) -> list[Any]:
        entries: Any = redis.xrange(log_key("gw", channel))
        assert [name for name, _ in entries] == [b"%d-0" % number for number in range(1, len(entries) + 1)]
        return [orjson.loads(fields[b"d"]) for _, fields in entries]

    return read


@pytest.fixture
async def publisher(redis_server: RedisServer) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher(redis_server.url, namespaces=NAMESPACES) as publisher:
        yield publisher


@pytest.fixture
def blocking(redis_server: RedisServer) -> Iterator[Publisher]:
    with Publisher(redis_server.url, namespaces=NAMESPACES) as publisher:
        yield publisher


@pytest.fixture
async def lossy(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[LossyProxy]:
    """A way to the Redis on which requests and answers of publications get lost."""
    proxy = LossyProxy(tmp_path, redis_server.url, marker=b"chat:")
    await proxy.start()
    yield proxy
    await proxy.aclose()


@pytest.fixture
async def far(lossy: LossyProxy) -> AsyncIterator[AsyncPublisher]:
    """A publisher behind `lossy`."""
    async with AsyncPublisher(lossy.url, namespaces=NAMESPACES) as publisher:
        yield publisher
