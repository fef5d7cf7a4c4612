"""Whether the worker should get traffic: the answer of `/health/ready`."""

from __future__ import annotations

import asyncio

from gateway.log import get_logger
from gateway.metrics import names


class Readiness:
    """Ready = started, not draining, and the worker's canary comes back from Redis (`gateway.edge.canary`).

    Without Redis connections stay, but `ready` says degraded.
    """

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
            return False, "degraded: no messages come through Redis; connections stay, nothing is delivered"
        return True, "ready"

    def canary(self, comes_back: bool) -> None:
        """The verdict of the canary has changed."""
        if comes_back:
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
        """Wait until messages come through Redis, but not for ever: a gateway must also start while Redis is away."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._redis.wait()
        except TimeoutError:
            get_logger().warning("starting without redis", waited_s=timeout_s)

    def _publish(self) -> None:
        self._counters[names.READY] = int(self.answer()[0])
