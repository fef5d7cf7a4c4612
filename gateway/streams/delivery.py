"""The records of one generation on their way to Redis: each of them exactly once, in order.

One call of the script is under way at a time; the caller sees to that. Records are numbered and kept until the stream
has ended. When an answer is lost the same records go again under the same numbers, and the stream leaves out those that
it has. The numbers say, too, when Redis has lost records: then they are sent again from there, and when it has lost the
stream as a whole, it is registered again under its generation. So a Redis that restarts without its data costs a living
producer nothing. The rule that is easiest to break: what has a number never changes.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec

from gateway.broker.backoff import Backoff
from gateway.broker.streams import Ending, Life, Mode, Outcome, StreamStore, stream_channel
from gateway.errors import (
    BrokerBusy,
    BrokerUnavailable,
    StreamActive,
    StreamCancelled,
    StreamEnded,
    StreamInvalid,
    StreamSuperseded,
    StreamTruncated,
    StreamUnavailable,
)
from gateway.log import get_logger
from gateway.streams.text import pack

RECORD_BYTES: Final = 16_384
"""Text in one record, at most; longer text becomes several."""
BATCH: Final = 64
"""Records in one call of the script."""
BACKOFF_S: Final = (0.05, 1.0)
"""Base and cap of the time between two attempts while Redis is away."""


class Delivery:
    """What one producer has given, and how much of it Redis has. Coroutines raise StreamUnavailable, BrokerRefused, and
    StreamEnded when somebody else has ended the stream."""

    def __init__(
        self,
        store: StreamStore,
        key: str,
        generation: str,
        owner: str,
        life: Life,
        *,
        retry_for_s: float,
        alive: Callable[[int], None],
    ) -> None:
        """`alive` is called whenever Redis has heard from the producer, with the number of workers that listen."""
        self._store = store
        self._key = key
        self._generation = generation
        self._owner = owner
        self._life = life
        self._retry_for_s = retry_for_s
        self._alive = alive
        self.records: list[bytes] = []
        """The text of every record; the first is record 2."""
        self.confirmed = 1
        """Number of the newest record that Redis has."""
        self._producer = os.urandom(12).hex()

    def add(self, text: bytes) -> None:
        """Make records of `text` (UTF-8)."""
        while text:
            record = cut(text, RECORD_BYTES)
            self.records.append(record)
            text = text[len(record) :]

    async def open(self, mode: Mode) -> None:
        """Register the generation, or `adopt` it. Raises StreamActive."""
        outcome = await self._persist(
            partial(self._store.open, self._key, self._generation, self._owner, self._life, mode, self._producer)
        )
        if outcome.name == "active":
            raise StreamActive(self._key, outcome.more.decode())
        if outcome.name != "ok":
            raise ended_by(self._key, outcome)
        self.confirmed = outcome.seq
        if mode == "adopt":
            self._owner = outcome.more.decode()  # it is registered again with it, should Redis lose it

    async def renew(self) -> None:
        """Say that the producer lives, and look whether Redis still has everything."""
        outcome = await self._persist(partial(self._store.renew, self._key, self._generation))
        if outcome.name == "gone":
            await self._restore()
        elif outcome.name == "ok":
            self.confirmed = outcome.seq
            self._alive(int(outcome.more))
        else:
            raise ended_by(self._key, outcome)

    async def send(self) -> None:
        """Until Redis has every record. Raises StreamTruncated."""
        while self.confirmed <= len(self.records):
            first = self.confirmed + 1
            texts = self.records[first - 2 : first - 2 + BATCH]
            outcome = await self._persist(partial(self._store.append, self._key, self._generation, first, texts))
            if outcome.name == "gone":
                await self._restore()
            elif outcome.name in ("ok", "gap"):
                self.confirmed = outcome.seq
                if outcome.name == "ok":
                    self._alive(int(outcome.more))
            elif outcome.name == "full":
                self.confirmed = outcome.seq
                await self._truncate(int(outcome.more))
            else:
                raise ended_by(self._key, outcome)

    async def end(self, status: Ending, fields: dict[str, Any]) -> bytes:
        """Everything, and the terminal record behind it; that record. Raises StreamInvalid for what is no JSON."""
        try:
            extra = msgspec.json.encode(fields)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise StreamInvalid(f"cannot be written as JSON: {error}") from error
        while True:
            await self.send()
            outcome = await self._persist(
                partial(self._store.end, self._key, self._generation, status, extra, self.confirmed)
            )
            if outcome.name == "gone":
                await self._restore()
            elif outcome.name == "gap":
                self.confirmed = outcome.seq
            elif outcome.name == "ok" or (outcome.name, outcome.status) == ("ended", status):
                await self._compact()
                return outcome.more
            else:
                raise ended_by(self._key, outcome)

    async def _restore(self) -> None:
        """Redis has lost the stream: register it again, under its generation."""
        await self.open("restore")
        get_logger().warning("stream registered again", channel=stream_channel(self._key), records=len(self.records))

    async def _truncate(self, left: int) -> None:
        """The text has reached its size: the `left` bytes of it that still fit, and the end."""
        rest = b"".join(self.records[self.confirmed - 1 :])
        del self.records[self.confirmed - 1 :]
        self.add(cut(rest, left))
        terminal = await self.end("truncated", {"reason": "size"})
        raise StreamTruncated(self._key, "truncated", terminal)

    async def _compact(self) -> None:
        """One value instead of many parts. When it cannot be done now, the reaper does it."""
        try:
            await self._store.compact(self._key, self._generation, pack(b"".join(self.records)))
        except (BrokerUnavailable, BrokerBusy):
            return

    async def _persist(self, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """The answer, asked for again while Redis is away. Raises StreamUnavailable."""
        backoff = Backoff(*BACKOFF_S, random.random)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._retry_for_s
        while True:
            try:
                return await call()
            except (BrokerUnavailable, BrokerBusy) as error:
                if loop.time() >= until:
                    raise StreamUnavailable(f'"{self._key}": {error}') from error
                await asyncio.sleep(backoff.next_delay())


def ended_by(key: str, outcome: Outcome) -> StreamEnded:
    """What a producer gets whose generation is over without its doing."""
    if outcome.name == "superseded" or b'"code":"superseded"' in outcome.more:
        return StreamSuperseded(key, "superseded", outcome.more)
    if outcome.status == "cancelled":
        return StreamCancelled(key, "cancelled", outcome.more)
    return StreamEnded(key, outcome.status or "unknown", outcome.more)


def cut(text: bytes, size: int) -> bytes:
    """The beginning of `text` (UTF-8), at most `size` bytes, that ends with a whole character."""
    if len(text) <= size:
        return text
    end = size
    while end > 0 and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]
