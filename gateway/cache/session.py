"""What an entered cache holds: its connections to Redis, and the tasks that go on when callers have left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.asyncio import Redis as RedisClient

from gateway.breaker import Breaker
from gateway.broker import CommandQueue, StoredStream, StreamStore
from gateway.cache.flight import Bus, Flight
from gateway.cache.options import Options
from gateway.cache.remote import Remote
from gateway.cache.reporting import Reporter
from gateway.cache.tallies import Tallies
from gateway.cache.values import Value, ValueUnreadable, pack_payload
from gateway.errors import CacheClosed, StreamError
from gateway.log import get_logger
from gateway.storage.pool import CountingPool, open_pool
from gateway.streams import Options as StreamOptions
from gateway.streams import Streams
from gateway.streams.records import decode_record
from gateway.streams.text import unpack
from gateway.tasks import TaskScope
from protocol.redis_contract import cache_key

if TYPE_CHECKING:
    from gateway.config import Redis

TEXT: Final = "cache-"
"""What the keys of streams with answers begin with."""
WRITE_S: Final = 2.0
"""Time to store a value, for which nobody waits; also at the end, for what is not stored yet."""
READ_BATCH: Final = 16
"""Streams that are read in one round trip."""


class Session:
    """Made by `open`; `aclose` ends it."""

    def __init__(
        self,
        client: RedisClient,
        pool: CountingPool,
        bus: Bus,
        reads: CommandQueue,
        options: StreamOptions,
        prefix: str,
        reporter: Reporter,
    ) -> None:
        self.client = client
        self.pool = pool
        self.bus = bus
        self.stream_options = options
        self._tasks = TaskScope(_broken)
        self._flights: dict[asyncio.Task[None], Flight] = {}
        self._reads = reads
        self._prefix = prefix
        self._reporter = reporter
        self._background = TaskScope(_broken)
        self._closed = False

    @classmethod
    async def open(
        cls, settings: Redis, options: Options, breaker: Breaker, tallies: Tallies, failures: Callable[[], int]
    ) -> Session:
        """Connects when something is asked. `failures` as `Reporter` has it."""
        client, pool = open_pool(settings, options.connections)
        remote = Remote(
            client,
            breaker,
            prefix=settings.prefix,
            budget_s=options.budget_s,
            write_s=WRITE_S,
            value_bytes=options.value_bytes,
        )
        stream_options = StreamOptions(lease_s=options.lease_s, retry_for_s=options.retry_for_s)
        streams = Streams(settings.url, prefix=settings.prefix, options=stream_options)
        await streams.__aenter__()
        reads = CommandQueue(client, batch=READ_BATCH)
        bus = Bus(streams, StreamStore(reads, reads, prefix=settings.prefix), remote)
        reporter = Reporter(
            client, remote, pool, tallies, failures, prefix=settings.prefix, interval_s=options.stats_interval_s
        )
        session = cls(client, pool, bus, reads, stream_options, settings.prefix, reporter)
        session._background.spawn(reads.run())
        session._background.spawn(reporter.run())
        return session

    def start(self, flight: Flight, run: Coroutine[Any, Any, None]) -> None:
        """Run a flight, whether or not its callers stay. Raises CacheClosed."""
        if self._closed:
            run.close()
            raise CacheClosed("the cache was closed")
        task = self._tasks.spawn(run)
        self._flights[task] = flight
        task.add_done_callback(self._landed)

    async def look(self, digest: str) -> tuple[StoredStream | None, bytes | None]:
        """The stream with the answer, and the refusal, in one round trip."""
        stored = self.bus.store.read(TEXT + digest)
        refusal = self._reads.submit("GET", cache_key(self._prefix, digest))
        return await stored, await refusal

    async def aclose(self) -> None:
        """What is there is brought to Redis; what is being made is told to have stopped, so that others take over.

        Calls that are under way end with CacheClosed: a flight that began now would outlive the connections.
        """
        self._closed = True
        if made := [task for task, flight in self._flights.items() if flight.text.ending is not None]:
            await asyncio.wait(made, timeout=WRITE_S)
        await self._tasks.aclose()
        await self._reporter.tell()
        await self.bus.remote.aclose()
        await self._background.aclose()
        await self.bus.streams.aclose()
        await self.client.aclose()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.pop(task).landed()


def value_of(stored: StoredStream) -> Value:
    """The text of a stream that has ended, and its usage. Raises ValueUnreadable."""
    try:
        said = unpack(stored.compacted) if stored.compacted else b"".join(stored.parts)
        text = said.decode()
        usage = decode_record(stored.terminal).usage
    except (StreamError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ValueUnreadable(str(error)) from error
    if len(text) != stored.length:
        raise ValueUnreadable(f"its text has {len(text)} characters, not {stored.length}")
    return Value("value", pack_payload([text, usage], 2**31))


def _broken(error: BaseException) -> None:
    get_logger().error("cache is broken", exc_info=error)
