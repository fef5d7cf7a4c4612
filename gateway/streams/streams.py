"""`Streams`: what a backend imports to produce token streams, to read and to cancel them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Final, NamedTuple, Self

from pydantic import ValidationError
from redis.asyncio import Redis as RedisClient

from gateway.broker import Connection, StreamStore
from gateway.broker.streams import Mode
from gateway.config import Redis
from gateway.errors import ConfigError, StreamClosed, StreamDenied, StreamInvalid
from gateway.log import get_logger
from gateway.streams.delivery import Delivery
from gateway.streams.ears import Ears
from gateway.streams.options import Options, check_key
from gateway.streams.reader import Reading
from gateway.streams.records import Record, new_generation
from gateway.streams.writer import Registration, StreamWriter
from gateway.tasks import TaskScope

WAIT_S: Final = 60.0
"""Time for which a registered stream waits for its producer."""
LEAST_PATIENCE_S: Final = 0.1


class StreamStatus(NamedTuple):
    """A stream at one moment."""

    key: str
    generation: str
    status: str
    """`active`, or how it ended: `finished`, `failed`, `cancelled`, `truncated`."""
    owner: str
    seq: int
    length: int
    """Characters (code points) of its text."""
    expired: bool
    """Whether the text is gone."""

    @property
    def active(self) -> bool:
        return self.status == "active"


class Streams:
    """Token streams of one gateway. One object per process and event loop; `async with`, or `aclose` at the end."""

    def __init__(self, redis: RedisClient | str, *, prefix: str = "gw", options: Options | None = None) -> None:
        """`redis`: a client of redis-py, which stays the caller's, or a URL as the
        gateway's `redis.url`. `prefix` as the
        gateway has it. Nothing is opened before the first use. Raises ConfigError, StreamInvalid.
        """
        self.options = options or Options()
        self.options.life()
        if isinstance(redis, str):
            settings = _settings(redis, prefix)
            self._redis = Connection(settings)
            prefix = settings.prefix
        elif isinstance(redis, RedisClient):
            self._redis = Connection(Redis(prefix=prefix), redis)
        else:
            raise ConfigError([f"redis: is {type(redis).__name__}; for a cluster give its URL, redis+cluster://…"])
        self._commands = self._redis.queue()
        self._store = StreamStore(self._commands, self._commands, prefix=prefix)
        self._ears = Ears(self._redis)
        self._tasks = TaskScope(self._broken)
        self._started = False
        self._closed = False
        self._writers: dict[bytes, StreamWriter] = {}
        self._ends: Counter[bytes] = Counter()
        """Channels that tell of ends, with the number of writers that they concern."""

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Writers and readers that are open get errors."""
        self._closed = True
        await self._tasks.aclose()
        await self._redis.aclose()

    def open(
        self,
        key: str,
        owner: str = "",
        *,
        replace: bool = False,
        keep_finished: bool = False,
        interrupt: bool = True,
        abandon_after_s: float | None = None,
        generation: str | None = None,
        options: Options | None = None,
    ) -> StreamWriter:
        """A new generation of the stream `key`; registered when it is entered, before the first token.

        `owner`: the user who may subscribe to it and cancel it; "" = nobody without a subscription token.
        `replace`: end a generation whose producer lives; otherwise entering raises StreamActive. `keep_finished`:
        entering raises StreamEnded when a generation has finished and its text is there. `interrupt`: cancel the
        task that produces as soon as somebody else ends the stream. `abandon_after_s`: cancel the stream when no
        gateway has had a subscriber for so long (0.1 s or more; known to a third of it). `generation`: take over the
        one that `register` gave, with its owner; entering raises StreamEnded when somebody has ended it meanwhile, and
        StreamActive when another producer has taken it. Raises StreamInvalid.
        """
        check_key(key)
        chosen = options or self.options
        chosen.life()
        if abandon_after_s is not None and not abandon_after_s >= LEAST_PATIENCE_S:
            raise StreamInvalid(f"abandon_after_s must be at least {LEAST_PATIENCE_S}")
        registration = Registration(
            key,
            new_generation(time.time()) if generation is None else generation,
            owner,
            _mode(adopt=generation is not None, replace=replace, keep_finished=keep_finished),
            interrupt,
            abandon_after_s,
            chosen,
        )
        return StreamWriter(self._store, registration, self._entered, self._left)

    async def register(
        self,
        key: str,
        owner: str = "",
        *,
        replace: bool = False,
        wait_s: float = WAIT_S,
        options: Options | None = None,
    ) -> str:
        """Register a generation for a producer that comes later, in another process, say, out of a queue; its id.

        From now on `owner` may watch it and cancel it. `open(key, generation=…)` takes it over; when nobody has done so
        within `wait_s` (0.1 to 3600) it ends as failed, `producer_lost`. Raises StreamInvalid, StreamActive,
        StreamUnavailable.
        """
        check_key(key)
        self._start()
        life = (options or self.options)._replace(lease_s=wait_s).life()
        generation = new_generation(time.time())
        delivery = Delivery(
            self._store,
            key,
            generation,
            owner,
            life,
            retry_for_s=self.options.retry_for_s,
            alive=lambda _: None,
        )
        await delivery.open("replace" if replace else "new")
        return generation

    async def read(self, key: str, generation: str | None = None, from_seq: int = 0) -> AsyncGenerator[Record, None]:
        """The stream from the beginning, or behind record `from_seq`: a `snapshot`, `delta`s, and one terminal record.

        `generation`: only this one; None = the one that there is. Gone, or another: `not_resumable`. A later `snapshot`
        may stand for deltas that were missed; its `since` says what it continues. Raises StreamInvalid,
        StreamUnavailable.
        """
        check_key(key)
        self._start()
        reading = Reading(self._store, self._ears, key, self.options, generation=generation, from_seq=from_seq)
        async with aclosing(reading.records()) as records:
            async for record in records:
                yield record

    async def cancel(self, key: str, generation: str | None = None, by: str = "") -> bool:
        """End the stream as `cancelled`, for good; True also when it was before, False when it had ended otherwise or
        is not there. `by`: the user who wants it, its owner, else StreamDenied; "" = the backend itself.
        """
        check_key(key)
        self._start()
        outcome = await self._store.cancel(key, generation or "", by)
        if outcome.name == "denied":
            raise StreamDenied(f'"{key}" belongs to somebody else')
        return outcome.name in ("ok", "ended") and outcome.status == "cancelled"

    async def status(self, key: str) -> StreamStatus | None:
        """The generation that there is, or was within the time that is remembered; None = none."""
        check_key(key)
        self._start()
        stored = await self._store.read(key, 2**53)
        if stored is None:
            return None
        return StreamStatus(
            key, stored.generation, stored.status, stored.owner, stored.seq, stored.length, stored.expired
        )

    def _start(self) -> None:
        if self._closed:
            raise StreamClosed("closed")
        if not self._started:
            self._started = True
            self._tasks.spawn(self._commands.run())
            self._tasks.spawn(self._ears.run())

    async def _entered(self, writer: StreamWriter) -> None:
        self._start()
        channel = self._store.ended_channel(writer.key)
        self._writers[writer.generation.encode()] = writer
        self._ends[channel] += 1
        if self._ends[channel] == 1:
            await self._ears.listen(channel, self._ended)

    def _left(self, writer: StreamWriter) -> None:
        channel = self._store.ended_channel(writer.key)
        if self._writers.pop(writer.generation.encode(), None) is not None:
            self._ends[channel] -= 1
            if not self._ends[channel]:
                del self._ends[channel]
                self._ears.leave(channel, self._ended)

    def _ended(self, generation: bytes | None) -> None:
        """Somebody has ended a generation; None = that may have been missed."""
        if generation is None:
            for writer in tuple(self._writers.values()):
                writer.ended_elsewhere()
        elif (found := self._writers.get(generation)) is not None:
            found.ended_elsewhere()

    def _broken(self, error: BaseException) -> None:
        get_logger().error("streams are broken", exc_info=error)


def _mode(*, adopt: bool, replace: bool, keep_finished: bool) -> Mode:
    if adopt:
        return "adopt"
    if replace:
        return "replace"
    return "once" if keep_finished else "new"


def _settings(url: str, prefix: str) -> Redis:
    try:
        return Redis(url=url, prefix=prefix)
    except ValidationError as error:
        # Not the message of pydantic: that shows the URL, with its password.
        raise ConfigError([f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors()]) from None
