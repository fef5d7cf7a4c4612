"""Caches in front of a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.cache import AsyncCache, Draft, Options, Request
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

OPTIONS = Options(lease_s=1.0, retry_for_s=5.0, budget_s=5.0, breaker_open_s=0.2, jitter=0.0)
"""A budget that a busy machine keeps."""


def asked(text: str = "Why?", *, tenant: str = "acme", kind: str = "prompt_response", **parameters: Any) -> Request:
    return Request(
        kind=kind,
        tenant=tenant,
        provider="test",
        model="small",
        parameters=parameters,
        messages=[{"role": "user", "content": text}],
    )


class Model:
    """Counts how often it is asked."""

    def __init__(self, *pieces: str, usage: Any = None, error: Exception | None = None) -> None:
        self.pieces = pieces or ("Because ", "of Rayleigh.")
        self.usage = usage
        self.error = error
        self.asked = 0

    async def stream(self, draft: Draft) -> Any:
        self.asked += 1
        for piece in self.pieces:
            await draft.append(piece)
        if self.error is not None:
            raise self.error
        return self.usage

    async def compute(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"text": "".join(self.pieces), "asked": self.asked}


async def until_landed(cache: AsyncCache) -> None:
    """Until nothing is on its way to Redis any more."""
    await wait_until(lambda: cache.stats().flights == 0, "Redis has everything")


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own."""
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[AsyncCache]:
    async with AsyncCache(redis_server.url, options=OPTIONS) as cache:
        yield cache


@pytest.fixture
async def other(redis_server: RedisServer) -> AsyncIterator[AsyncCache]:
    """As another process would have it."""
    async with AsyncCache(redis_server.url, options=OPTIONS) as cache:
        yield cache
