"""A subscriber on a real Redis, and a second connection to ask that Redis what it knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.support.redis_server import RedisServer
from tests.support.subscriber import SubscriberWorld


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own."""
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[SubscriberWorld]:
    """A subscriber that is not running yet."""
    world = SubscriberWorld(redis_server.url)
    yield world
    await world.stop()


@pytest.fixture
async def connected(world: SubscriberWorld) -> SubscriberWorld:
    """A subscriber that is connected."""
    world.start()
    async with asyncio.timeout(20):
        await world.happened("connected")
    return world
