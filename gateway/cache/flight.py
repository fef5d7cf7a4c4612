"""Single flight: of all callers in the fleet that want the same answer, one produces.

Theory of operation. A flight is a token stream (`gateway.streams`). Who opens it produces: the script in Redis lets one
generation live at a time, its lease says that the producer lives. Everybody else follows the stream until it ends. When
the lease is over, those who follow say so to Redis, which ends the stream as `producer_lost`, and the first of them
to open it again produces.

Each process has one flight for a key, however many callers: it runs in a task of its own, so a caller that leaves ends
nothing. What is produced here goes to the callers here at once, and is copied to the stream beside that (`_copy`). So
a Redis that is away, slow or comes back costs them nothing but the budget; and the stream, which follows when it can,
is whole in the end. The rule that is easiest to break: nothing on the way of an answer waits for the copy.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from gateway.broker import StreamStore
from gateway.cache.remote import Remote
from gateway.cache.text import Ending, Text
from gateway.errors import (
    BrokerError,
    CacheClosed,
    StreamActive,
    StreamCancelled,
    StreamEnded,
    StreamError,
)
from gateway.log import get_logger
from gateway.streams import Options, Record, Streams, StreamWriter

LOST: Final = frozenset(("producer_lost", "producer_stopped", "superseded"))
"""Codes of streams whose producer has gone without having failed."""
ATTEMPTS: Final = 10
"""Times that a flight is tried before the answer is produced without one."""
REOPENINGS: Final = 3
"""Times that a stream is opened anew because Redis took its producer for dead."""


class Bus(NamedTuple):
    """What flights need of Redis."""

    streams: Streams
    store: StreamStore
    remote: Remote


class Plan(NamedTuple):
    """One flight."""

    key: str
    """Of the stream."""
    digest: str
    """Of the request."""
    owner: str
    options: Options
    until: float
    """Until when Redis may take the time of whoever asks, on the loop's clock."""
    keep_finished: bool = False
    """Follow a stream that has finished meanwhile, instead of producing the answer anew."""


class Flight:
    """The callers of one process and one key. Subclasses say what is produced, and what is made of the end."""

    def __init__(self, bus: Bus, plan: Plan) -> None:
        self.bus = bus
        self.plan = plan
        self.text = Text()
        self.callers = 0
        self.takeovers = 0
        self.led = False
        """Whether the answer was produced here."""
        self.copied = False
        """Whether the stream has ended as the answer has."""
        self.started = asyncio.Event()
        """Set once it is known whether somebody else produces."""
        self._closing: Ending | None = None
        """What the stream is ended with."""
        self._cancelled = False
        self._making: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        """Until the answer is there, here and in Redis."""
        try:
            for attempt in range(ATTEMPTS):
                within_s = max(0.001, self.plan.until - asyncio.get_running_loop().time()) if not attempt else None
                if await self._lead(within_s) or await self._follow():
                    return
            self.text.restart()
            self._begin()
            await self._make()
        except Exception as error:
            self.text.end(Ending("failed", code="error", error=error))
            raise
        finally:
            self.started.set()

    def landed(self) -> None:
        """`run` has ended, or was cancelled before it began: nobody waits for it any longer."""
        if self.text.ending is None:
            closed = CacheClosed("the cache was closed while the answer was made")
            self.text.end(Ending("failed", code="producer_stopped", error=closed))
        self.started.set()

    # What subclasses say.

    async def _produce(self) -> Any:
        """What the backend gives."""
        raise NotImplementedError

    async def _made(self, made: Any, error: BaseException | None) -> Ending:
        """What was produced is told to the callers (`text.end`), and kept. The ending of the stream."""
        raise NotImplementedError

    async def _followed(self, record: Record) -> bool:
        """How the stream has ended that somebody else produced; False = the answer is not there."""
        raise NotImplementedError

    # Producing.

    def _begin(self) -> None:
        self.led = True
        self.started.set()

    async def _lead(self, within_s: float | None) -> bool:
        """Produce, unless somebody else does, which Redis may take `within_s` to say (None = the whole budget)."""
        self.text.restart()
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[bool] = loop.create_future()
        copying = loop.create_task(self._copy(opened))
        try:
            try:
                ours = await self.bus.remote.ask(lambda: opened, within_s=within_s)
            except BrokerError:
                ours = True  # as far as anybody knows
            if not ours:
                return False
            self._begin()
            self._closing = await self._make()
            self.text.wake()
            await asyncio.wait((copying,))
            return True
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)

    async def _make(self) -> Ending:
        making = self._making = asyncio.get_running_loop().create_task(self._produce())
        try:
            if self._cancelled:
                making.cancel()  # before it began
            await asyncio.wait((making,))
        finally:
            if not making.done():
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)
            self._making = None
        if self._cancelled:
            error: BaseException | None = StreamCancelled(self.plan.key, "cancelled")
        elif making.cancelled():
            error = CacheClosed("the producer was stopped")
        else:
            error = making.exception()
        return await self._made(None if error is not None else making.result(), error)

    async def _copy(self, opened: asyncio.Future[bool]) -> None:
        """Have the stream say what is produced here."""
        try:
            for _ in range(REOPENINGS):
                writer = self.bus.streams.open(
                    self.plan.key, self.plan.owner, keep_finished=self.plan.keep_finished, options=self.plan.options
                )
                try:
                    async with writer:
                        self.text.generation = writer.generation
                        _settle(opened, ours=True)
                        await self._write(writer)
                except StreamEnded as ended:
                    if b'"producer_lost"' not in ended.terminal:
                        raise
                else:
                    self.copied = True
                    return
            get_logger().warning("answer not copied: its stream was ended again and again", channel=writer.channel)
        except StreamActive:
            _settle(opened, ours=False)
        except StreamEnded as ended:
            self._ended_elsewhere(ended)
            _settle(opened, ours=ended.status != "finished")
        except (StreamError, BrokerError) as error:
            get_logger().warning("answer not copied to its stream", stream=self.plan.key, reason=str(error))
        finally:
            _settle(opened, ours=True)

    def _ended_elsewhere(self, ended: StreamEnded) -> None:
        """Somebody has cancelled the answer for everybody, taken it over, or it has grown too large for a stream."""
        if isinstance(ended, StreamCancelled):
            self._cancelled = True
            if self._making is not None:
                self._making.cancel()
        elif ended.status != "finished":
            get_logger().info("stream of an answer ended elsewhere", stream=self.plan.key, status=ended.status)

    async def _write(self, writer: StreamWriter) -> None:
        sent = 0
        while True:
            while sent < len(self.text.parts):
                await writer.append(self.text.parts[sent])
                sent += 1
            if self._closing is not None:
                break
            await self.text.wait_changed()
        closing = self._closing
        if closing.status == "finished":
            await writer.finish(usage=closing.usage)
        elif closing.status == "truncated":
            await writer.truncate(closing.code, usage=closing.usage)
        elif closing.status == "cancelled":
            await writer.cancel(closing.code)
        else:
            await writer.fail(closing.code, closing.message)

    # Following.

    async def _follow(self) -> bool:
        """Take what somebody else produces; False = it did not come to its end."""
        self.started.set()
        self.text.restart()
        self.text.generation = ""
        watching = asyncio.get_running_loop().create_task(self._watch_lease())
        try:
            async with aclosing(self.bus.streams.read(self.plan.key)) as records:
                async for record in records:
                    if record.is_terminal:
                        if record.type == "failed" and record.code in LOST:
                            self.takeovers += 1
                            return False
                        return record.type != "not_resumable" and await self._followed(record)
                    if record.type == "snapshot":
                        self.text.generation = record.generation
                        if record.since == 0:
                            self.text.restart()
                    self.text.add(record.text)
        except (StreamError, BrokerError) as error:
            get_logger().warning("answer not followed", stream=self.plan.key, reason=str(error))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return False

    async def _watch_lease(self) -> None:
        """Have Redis look whether the producer lives: where no gateway runs, nobody else does."""
        while True:
            await asyncio.sleep(self.plan.options.lease_s / 2)
            if self.text.generation:
                try:
                    await self.bus.store.lose(self.plan.key, self.text.generation)
                except BrokerError as error:
                    get_logger().debug("lease not looked at", stream=self.plan.key, reason=str(error))


def _settle(opened: asyncio.Future[bool], *, ours: bool) -> None:
    if not opened.done():
        opened.set_result(ours)
