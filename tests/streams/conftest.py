"""Producers and readers in front of a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.streams import Options, Streams
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import RedisServer

OPTIONS = Options(lease_s=1.0, retry_for_s=10.0)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own."""
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def streams(redis_server: RedisServer) -> AsyncIterator[Streams]:
    async with Streams(redis_server.url, options=OPTIONS) as streams:
        yield streams


@pytest.fixture
async def lossy(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[LossyProxy]:
    """A way to the Redis on which requests and answers that concern streams get lost."""
    proxy = LossyProxy(tmp_path, redis_server.url, marker=b"append")
    await proxy.start()
    yield proxy
    await proxy.aclose()


@pytest.fixture
async def far(lossy: LossyProxy) -> AsyncIterator[Streams]:
    """A producer behind `lossy`."""
    async with Streams(lossy.url, options=OPTIONS) as streams:
        yield streams
