"""Publishing for clients: what arrives while Redis answers goes out together in the next round trip.

One round trip is in flight at a time, so publications leave in the order in which they were given, and the batch grows
with the load by itself. Nothing is retried: the answer may have been lost behind an executed command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import RedisError, ResponseError

from gateway.errors import BrokerBusy, BrokerError, BrokerRefused, BrokerUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis as RedisClient

MAX_WAITING: Final = 10_000
"""Publications that wait for Redis; above it `publish` refuses."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bytes that wait for Redis; above it `publish` refuses."""
BATCH: Final = 500
"""Publications in one round trip."""


class _Waiting(NamedTuple):
    channel: bytes
    payload: bytes
    done: asyncio.Future[int]


class PublishQueue:
    """Publishes to Redis channels, in order, many in one round trip. At most once."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()

    def publish(self, channel: bytes, payload: bytes) -> asyncio.Future[int]:
        """Queue one publication. The future gives the number of Redis subscribers that got it.

        Raises BrokerBusy at once when too much waits; the future raises BrokerUnavailable (it may or may not have been
        delivered) or BrokerRefused.
        """
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise BrokerBusy(len(self._waiting))
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(channel, payload, done))
        self._waiting_bytes += len(payload)
        self._wake.set()
        return done

    async def run(self) -> None:
        """Send what is queued until cancelled; what is queued then fails with BrokerUnavailable."""
        batch: list[_Waiting] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                    self._waiting_bytes -= sum(len(waiting.payload) for waiting in batch)
                    await self._send(batch)
        finally:
            for waiting in (*batch, *self._waiting):
                _settle(waiting.done, BrokerUnavailable("the gateway is stopping"))
            self._waiting.clear()
            self._waiting_bytes = 0

    async def _send(self, batch: list[_Waiting]) -> None:
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for waiting in batch:
                    pipeline.execute_command("PUBLISH", waiting.channel, waiting.payload)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            answers = [BrokerUnavailable(str(error))] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ResponseError):
                _settle(waiting.done, BrokerRefused(str(answer)))
            elif isinstance(answer, RedisError):
                _settle(waiting.done, BrokerUnavailable(str(answer)))
            else:
                _settle(waiting.done, answer)


def _settle(done: asyncio.Future[int], answer: int | BrokerError) -> None:
    if done.done():
        return
    if isinstance(answer, BrokerError):
        done.set_exception(answer)
        done.exception()  # Whoever asked may be gone; that is no "exception was never retrieved".
    else:
        done.set_result(answer)
