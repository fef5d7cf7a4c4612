"""The publisher: one lane a channel, at a steady rate, with history and an idempotency key.

A lane publishes again, with the same key, until Redis has accepted: whether an answer got lost on the way or the
publication did, the log holds it once. What is accepted is recorded with its position. A lane that was held up does not
make up for it: the rate is steady, not the number.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import REPOSITORY
from loadtest.faults.messages import payload
from loadtest.faults.record import Record
from protocol.position import Position
from protocol.redis_contract import done_key, log_key, meta_key, publish_channel

SCRIPT: Final = REPOSITORY / "gateway" / "broker" / "lua" / "publish.lua"
PREFIX: Final = "gw"
HISTORY_SIZE: Final = 10_000
HISTORY_TTL_S: Final = 600
ANSWER_S: Final = 1.0
"""Time that Redis has to answer before a publication is sent again."""
RETRY_S: Final = 0.05
PASSING: Final = (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    TryAgainError,
)
"""Errors that another attempt may not meet: nothing was done."""
KEY_LIFE_MS: Final = 300_000


class PublishScript:
    """The script of the Redis publish contract, as a backend calls it that has it from the gateway's repository."""

    def __init__(self, text: str, prefix: str = PREFIX) -> None:
        """`prefix`: a `ClusterPrefix` in a cluster."""
        self.text = text
        self.prefix = prefix
        self._digest = ""

    @classmethod
    def read(cls, path: Path = SCRIPT, *, prefix: str = PREFIX) -> Self:
        """Raises BenchError when it is not there."""
        try:
            return cls(path.read_text(), prefix)
        except OSError as error:
            raise BenchError(f"the publish script cannot be read: {error}") from error

    async def load(self, client: Redis) -> None:
        """Have Redis know it: a transaction cannot wait for that."""
        self._digest = str(await client.script_load(self.text))

    async def run(self, client: Any, channel: str, data: bytes, key: str) -> Position:
        """Publish. Raises RedisError."""
        arguments = self.arguments(channel, data, key)
        if self._digest:
            try:
                return position_of(await client.evalsha(self._digest, *arguments))
            except NoScriptError:
                pass
        await self.load(client)
        return position_of(await client.evalsha(self._digest, *arguments))

    def queue(self, pipeline: Any, channel: str, data: bytes, key: str) -> None:
        """The same as part of a transaction, after `load`."""
        pipeline.evalsha(self._digest, *self.arguments(channel, data, key))

    def arguments(self, channel: str, data: bytes, key: str) -> list[Any]:
        """Keys and arguments of the script, as its head lists them."""
        prefix = self.prefix
        keys = (log_key(prefix, channel), meta_key(prefix, channel), done_key(prefix, key, channel))
        new_epoch, version = secrets.token_hex(6), 0
        lives_ms = (HISTORY_TTL_S * 1000, 2 * HISTORY_TTL_S * 1000)
        destination = publish_channel(prefix, channel)
        return [len(keys), *keys, destination, data, "-", HISTORY_SIZE, *lives_ms, new_epoch, KEY_LIFE_MS, version, ""]

    @staticmethod
    def positions(replies: Sequence[Any]) -> list[Position]:
        """What a transaction has answered."""
        return [position_of(reply) for reply in replies]


class _Client(Redis):
    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """As redis-py's. A socket whose end was not seen in time is closed all the same."""
        with contextlib.suppress(RedisError):
            await super().aclose(close_connection_pool)


def client_of(port: int) -> Redis:
    """A client that tries nothing twice by itself."""
    return _Client(
        host="127.0.0.1",
        port=port,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=False,
    )


class Publisher:
    """Publishes on `channels` until it is stopped. `rates` may be changed while it runs (a second and channel)."""

    def __init__(
        self,
        script: PublishScript,
        connect: Callable[[], AbstractAsyncContextManager[Any]],
        channels: Sequence[str],
        rate_per_s: float,
        size: int,
        record: Record,
    ) -> None:
        """`connect` gives what `script` publishes through; each lane has its own."""
        self.rates = dict.fromkeys(channels, rate_per_s)
        self.repeated = 0
        """Times that a publication was sent again."""
        self._script = script
        self._connect = connect
        self._size = size
        self._record = record
        self._run_id = secrets.token_hex(4)
        self._sequence = 0
        self._stopping = False
        self._lanes: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all lanes, at moments that spread over an interval."""
        count = len(self.rates)
        loop = asyncio.get_running_loop()
        self._lanes = [
            loop.create_task(self._lane(channel, index / count / rate))
            for index, (channel, rate) in enumerate(self.rates.items())
        ]

    async def stop(self) -> None:
        """Stop after what each lane has begun. Raises what a lane has ended with."""
        self._stopping = True
        await asyncio.gather(*self._lanes)

    def check(self) -> None:
        """Raise what a lane has ended with, if one has."""
        for lane in self._lanes:
            if lane.done():
                lane.result()

    async def aclose(self) -> None:
        """End all lanes at once."""
        self._stopping = True
        left = set(self._lanes)
        while left:
            # Again and again: redis-py may swallow a cancellation while it connects.
            for lane in left:
                lane.cancel()
            _, left = await asyncio.wait(left, timeout=0.1)
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def burst(self, count: int) -> None:
        """`count` publications, taking turns on the channels, in one transaction, so that Redis has them all before
        it writes any to its subscribers."""
        names = list(self.rates)
        batch = [(names[index % len(names)], self._next()) for index in range(count)]
        async with self._connect() as client:
            while True:
                try:
                    await self._script.load(client)
                    async with client.pipeline(transaction=True) as pipeline:
                        for channel, sequence in batch:
                            self._script.queue(pipeline, channel, payload(sequence, self._size), self._key(sequence))
                        positions = self._script.positions(await pipeline.execute())
                    break
                except RedisError as error:
                    await self._again(error)
        for (channel, sequence), position in zip(batch, positions, strict=True):
            self._record.accept(channel, position, sequence)

    async def _lane(self, channel: str, first_after_s: float) -> None:
        async with self._connect() as client:
            due = time.monotonic() + first_after_s
            while not self._stopping:
                await asyncio.sleep(due - time.monotonic())
                await self._publish(client, channel)
                due = max(due + 1 / self.rates[channel], time.monotonic())

    async def _publish(self, client: Any, channel: str) -> None:
        sequence = self._next()
        data, key = payload(sequence, self._size), self._key(sequence)
        while True:
            try:
                position = await self._script.run(client, channel, data, key)
            except RedisError as error:
                await self._again(error)
            else:
                self._record.accept(channel, position, sequence)
                return

    async def _again(self, error: RedisError) -> None:
        """Wait a little before the next attempt. Raises an error that another attempt would not change."""
        if isinstance(error, ResponseError) and not isinstance(error, PASSING):
            raise BenchError(f"Redis refuses to publish: {error}") from error
        self.repeated += 1
        await asyncio.sleep(RETRY_S)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _key(self, sequence: int) -> str:
        return f"{self._run_id}-{sequence}"


def position_of(reply: Any) -> Position:
    offset, epoch, _fresh = reply
    return Position(offset=int(offset), epoch=epoch.decode())
