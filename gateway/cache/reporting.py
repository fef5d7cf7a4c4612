"""What the caches of all processes count, told to one hash in Redis, where the gateway's control process reads it.

In batches, by a task of its own: no request waits for it. What could not be told is told with the next batch. One whose
answer was lost may be counted twice; sums of a cache bear that, and nothing else is told this way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from gateway.cache.remote import Remote
from gateway.cache.tallies import PROCESS, Tallies
from gateway.errors import BrokerUnavailable
from gateway.log import get_logger
from gateway.storage.pool import CountingPool
from protocol.redis_contract import cache_stats_key

if TYPE_CHECKING:
    from redis.asyncio import Redis as RedisClient

WITHIN_S: Final = 1.0
"""Time that Redis may take."""


class Reporter:
    """Tells what one process counts."""

    def __init__(
        self,
        client: RedisClient,
        remote: Remote,
        pool: CountingPool,
        tallies: Tallies,
        failures: Callable[[], int],
        *,
        prefix: str,
        interval_s: float,
    ) -> None:
        """`failures`: times that Redis was given up for a while, since the cache was made."""
        self._client = client
        self._remote = remote
        self._pool = pool
        self._tallies = tallies
        self._failures = failures
        self._key = cache_stats_key(prefix)
        self._interval_s = interval_s
        self._told: Counter[str] = Counter()

    async def run(self) -> NoReturn:
        """Tell until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.tell()

    async def tell(self) -> None:
        """Tell what is new. A Redis that is away has been said elsewhere."""
        self._note_process()
        news = self._tallies.take_news()
        if not news:
            return
        try:
            await self._remote.ask(lambda: self._write(news), within_s=WITHIN_S)
        except BrokerUnavailable as error:
            self._tallies.give_back(news)
            get_logger().debug("cache statistics not written", reason=str(error))

    def _note_process(self) -> None:
        pool = self._pool.statistics()
        now = {"pool_waits": pool.waits, "pool_reconnects": pool.reconnects, "redis_failures": self._failures()}
        for counter, total in now.items():
            self._tallies.add(PROCESS, counter, total - self._told[counter])
            self._told[counter] = total

    async def _write(self, news: Counter[tuple[str, str]]) -> Any:
        async with self._client.pipeline(transaction=True) as pipeline:
            for (kind, counter), number in news.items():
                pipeline.hincrby(self._key, f"{kind} {counter}", number)
            return await pipeline.execute()
