"""Whether the worker should get traffic: the answer of `/health/ready`."""

from __future__ import annotations

import asyncio

from gateway.log import get_logger
from gateway.metrics import names


class Readiness:
    """Ready = started, not draining, in touch with Redis. Without Redis connections stay, but `ready` says degraded."""

    def __init__(self, counters: memoryview[int]) -> None:
        self._counters = counters
        self._started = False
        self._draining = False
        self._redis = asyncio.Event()

    def answer(self) -> tuple[bool, str]:
        """(ready, a word for people)."""
        if self._draining:
            return False, "draining"
        if not self._started:
            return False, "starting"
        if not self._redis.is_set():
            return False, "degraded: Redis is away; connections stay, nothing is delivered"
        return True, "ready"

    def redis_changed(self, connected: bool) -> None:
        if connected:
            self._redis.set()
        else:
            self._redis.clear()
        self._publish()

    def started(self) -> None:
        self._started = True
        self._publish()

    def draining(self) -> None:
        self._draining = True
        self._publish()

    async def wait_for_redis(self, timeout_s: float) -> None:
        """Wait until Redis is there, but not for ever: a gateway that restarts while Redis is away must still start."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._redis.wait()
        except TimeoutError:
            get_logger().warning("starting without redis", waited_s=timeout_s)

    def _publish(self) -> None:
        self._counters[names.READY] = int(self.answer()[0])
