"""Reading a stream from within a backend: the text so far, then what comes, then the end.

Theory of operation. A reader listens first and reads then, so nothing is missed in between. What it hears is taken when
it is the next record of its generation; anything else (a hole, another generation, a lost connection, silence) makes it
read the stored text again behind its position. So records come once and in order, whatever is heard.

When the stream is gone for a reader that has followed it, Redis may have lost it: its producer has some time to
register it again before the reader is told `not_resumable`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from gateway.broker.backoff import Backoff
from gateway.broker.streams import StoredStream, StreamStore
from gateway.errors import BrokerBusy, BrokerUnavailable, StreamUnavailable
from gateway.streams.ears import Ears
from gateway.streams.options import Options
from gateway.streams.records import Record, decode_record
from gateway.streams.text import unpack
from protocol.errors import EnvelopeError
from protocol.redis_contract import Received, decode_payload

WAITING: Final = 1000
"""Payloads that wait for a reader; when there are more it reads the stored text instead."""
LOOK_S: Final = 2.0
"""Time without a word after which a reader looks whether there is something."""
BACKOFF_S: Final = (0.05, 1.0)


class Reading:
    """One reader of one stream."""

    def __init__(
        self, store: StreamStore, ears: Ears, key: str, options: Options, *, generation: str | None, from_seq: int
    ) -> None:
        """As `Streams.read`."""
        self._store = store
        self._ears = ears
        self._key = key
        self._options = options
        self._generation = generation
        self._seq = from_seq
        self._length: int | None = None
        """Characters that were handed on; None = the reader began in the middle."""
        self._followed = False
        self._waiting: deque[bytes] = deque()
        self._missed = False
        self._wake = asyncio.Event()

    async def records(self) -> AsyncGenerator[Record, None]:
        """Until the end of the stream. Raises StreamUnavailable, BrokerRefused."""
        channel = self._store.publish_channel(self._key)
        await self._ears.listen(channel, self._heard)
        gone_since: float | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._missed = False
                self._waiting.clear()
                stored = await self._read()
                if stored is None or stored.seq < self._seq:
                    # Never there; or lost by Redis, and its producer may bring it back.
                    gone_since = gone_since or loop.time()
                    patience_s = 2 * self._options.lease_s if self._followed else 0.0
                    patient = loop.time() - gone_since < patience_s and not (stored and stored.terminal)
                    if patient:
                        await asyncio.sleep(patience_s / 100)
                    elif stored is None:
                        yield self._not_resumable("expired" if self._followed else "unknown")
                        return
                    else:
                        self._seq = 0
                    continue
                gone_since = None
                for record in self._stored_records(stored):
                    yield record
                    if record.is_terminal:
                        return
                while (heard := await self._next()) is not None:
                    yield heard
                    if heard.is_terminal:
                        return
        finally:
            self._ears.leave(channel, self._heard)

    def _stored_records(self, stored: StoredStream) -> list[Record]:
        """What of the stored stream is news."""
        if self._generation is None:
            self._generation = stored.generation
        elif stored.generation != self._generation:
            return [self._not_resumable("superseded")]
        if stored.expired:
            return [self._not_resumable("expired")]
        newest = stored.seq - bool(stored.terminal)
        if not stored.compacted:
            text = b"".join(stored.parts).decode()
        elif self._length is not None or self._seq >= newest:
            text = unpack(stored.compacted).decode()[self._length or 0 :]
        else:
            # It is not known where record `from_seq` ended.
            text, self._seq = unpack(stored.compacted).decode(), 0
        since = self._seq
        found: list[Record] = []
        if newest > since or not self._followed:
            covered = "" if since >= newest else text
            self._took(covered, since)
            found.append(
                Record(
                    "snapshot",
                    generation=stored.generation,
                    seq=newest,
                    since=since,
                    text=covered,
                    status=stored.status,
                )
            )
        self._followed = True
        self._seq = stored.seq
        if stored.terminal:
            found.append(decode_record(stored.terminal))
        return found

    async def _next(self) -> Record | None:
        """The next record, if it is heard; None = the stored stream has to be read."""
        while True:
            while self._waiting:
                try:
                    received = decode_payload(self._waiting.popleft())
                    if not isinstance(received, Received) or received.position is None:
                        continue
                    position = received.position
                    if position.epoch == self._generation and position.offset <= self._seq:
                        continue
                    if position.epoch != self._generation or position.offset != self._seq + 1:
                        return None
                    data = received.publication.data
                    record = decode_record(bytes(data) if data else b"")
                except (EnvelopeError, msgspec.MsgspecError):
                    return None
                self._seq = position.offset
                self._took(record.text, self._seq)
                return record
            if self._missed:
                return None
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                return None

    def _took(self, text: str, since: int) -> None:
        """`text` is handed on; it goes on behind record `since`."""
        if since == 0:
            self._length = 0
        if self._length is not None:
            self._length += len(text)

    def _heard(self, payload: bytes | None) -> None:
        if payload is None or len(self._waiting) >= WAITING:
            self._waiting.clear()
            self._missed = True
        else:
            self._waiting.append(payload)
        self._wake.set()

    def _not_resumable(self, reason: str) -> Record:
        return Record("not_resumable", generation=self._generation or "", reason=reason)

    async def _read(self) -> StoredStream | None:
        backoff = Backoff(*BACKOFF_S, random.random)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._options.retry_for_s
        while True:
            try:
                return await self._store.read(self._key, self._seq)
            except (BrokerUnavailable, BrokerBusy) as error:
                if loop.time() >= until:
                    raise StreamUnavailable(f'"{self._key}": {error}') from error
                await asyncio.sleep(backoff.next_delay())
