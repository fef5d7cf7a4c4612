"""Redis, as the cache asks it: within a budget, behind a circuit breaker, and never in the way of an answer.

The rule that is easiest to break: whoever asks has time for the budget and no more. What takes longer goes on by itself
until its own end (cancelling it would close a connection), and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import RedisError

from gateway.breaker import Breaker
from gateway.cache.values import Value, decode, encode
from gateway.errors import BrokerError, BrokerUnavailable
from gateway.storage.lost import lost_is_said
from protocol.redis_contract import cache_key

if TYPE_CHECKING:
    from redis.asyncio import Redis as RedisClient

T = TypeVar("T")

LATE: Final = 1000
"""Operations that nobody waits for any more, at most; while there are as many Redis is not asked."""


class Remote:
    """What the caches of all processes share. Methods raise BrokerUnavailable and nothing else, except where they say
    so."""

    def __init__(
        self, client: RedisClient, breaker: Breaker, *, prefix: str, budget_s: float, write_s: float, value_bytes: int
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._prefix = prefix
        self._budget_s = budget_s
        self._write_s = write_s
        self._value_bytes = value_bytes
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    @property
    def is_away(self) -> bool:
        """Whether Redis has failed so often that it is not asked at the moment."""
        return self._breaker.is_open

    async def get(self, digest: str) -> tuple[Value, float] | None:
        """The value and the seconds that it has left; None = there is none. Raises ValueUnreadable, too."""
        data, left_ms = await self.ask(lambda: self._read(cache_key(self._prefix, digest)))
        if data is None or left_ms <= 0:
            return None
        return decode(digest, data, self._value_bytes), left_ms / 1000

    async def set(self, digest: str, value: Value, ttl_s: float) -> int:
        """Keep a value; the bytes that it takes. For callers for whom nobody waits: it takes longer than the budget."""
        data = encode(digest, value)
        await self.ask(
            lambda: self._client.set(cache_key(self._prefix, digest), data, px=max(1, int(ttl_s * 1000))),
            within_s=self._write_s,
        )
        return len(data)

    async def delete(self, digest: str) -> None:
        await self.ask(lambda: self._client.delete(cache_key(self._prefix, digest)), within_s=self._write_s)

    async def ask(self, operation: Callable[[], Awaitable[T]], *, within_s: float | None = None) -> T:
        """What `operation` gives, if that is in time."""
        if self._closed:
            raise BrokerUnavailable("the cache is closed")
        if len(self._running) >= LATE or not self._breaker.admit():
            raise BrokerUnavailable("redis is not asked: it has failed too often")
        try:
            running = asyncio.ensure_future(operation())
            self._running.add(running)
            running.add_done_callback(self._ended)
            done, _ = await asyncio.wait((running,), timeout=within_s or self._budget_s)
            if not done:
                raise BrokerUnavailable("redis does not answer in time")
            with lost_is_said():
                answer = running.result()
        except (RedisError, OSError, TimeoutError, BrokerError) as error:
            self._breaker.failed()
            if isinstance(error, BrokerUnavailable):
                raise
            raise BrokerUnavailable(str(error)) from error
        except BaseException as error:
            self._breaker.abandoned()
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise BrokerUnavailable("the cache was closed") from error  # it is `operation` that was cancelled
            raise
        self._breaker.succeeded()
        return answer

    async def aclose(self) -> None:
        """Wait for nothing that is under way, and begin nothing any more."""
        self._closed = True
        running = list(self._running)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _read(self, key: bytes) -> tuple[bytes | None, int]:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.get(key)
            pipeline.pttl(key)
            data, left_ms = await pipeline.execute()
        return data, left_ms

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # whoever asked may be gone
