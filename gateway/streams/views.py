"""The text of streams, as one worker shares it among clients that arrive together.

Theory of operation. The first client of a stream has it read from Redis; others wait for the same answer. Afterwards
the view is kept for a while and carried on with the records that the worker has heard anyway (`extend`), so that a
thousand clients who open one answer cost one read. A view is of one generation; whoever uses it compares that with the
channel's epoch. The rule that is easiest to break: a client gets the text up to `offset` and joins the channel behind
exactly that record, in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final, Protocol

import msgspec
from msgspec import Raw

from gateway.broker.streams import StoredStream
from gateway.clock import Clock
from gateway.errors import StreamError
from gateway.streams.records import record_of, snapshot
from gateway.streams.text import unpack
from gateway.tasks import fail
from protocol.replies import Publication

KEPT_BYTES: Final = 16_777_216
"""Text in memory, about."""
UNUSED_S: Final = 10.0
"""Time after which a view that nobody has used is dropped when another one comes."""
READ_AGAIN_S: Final = 60.0
"""Age from which a view is read from Redis again, so that an expired text does not live on here."""
ENTRY_BYTES: Final = 1000
"""What a view counts besides its text."""
LOSS_S: Final = 20.0
"""Time after a reconnect to Redis in which a stream that is gone may be brought back by its producer."""


class ReadsStreams(Protocol):
    """What is needed of the broker (`gateway.broker.StreamStore`)."""

    def read(self, key: str, behind: int = 0) -> asyncio.Future[StoredStream | None]: ...


class View:
    """The text of one generation up to a record."""

    __slots__ = (
        "_parts",
        "_whole",
        "expired",
        "generation",
        "good_for_s",
        "offset",
        "owner",
        "size",
        "status",
        "terminal",
    )

    def __init__(self, stored: StoredStream) -> None:
        """Raises StreamError and UnicodeDecodeError for a text that cannot be read."""
        self.generation = stored.generation
        self.owner = stored.owner
        self.status = stored.status
        """`active`, or how it ended."""
        self.expired = stored.expired
        self.offset = stored.seq
        """Number of the newest record that is in here."""
        self.good_for_s = min(READ_AGAIN_S, stored.left_ms / 1000) if stored.left_ms >= 0 else READ_AGAIN_S
        self.terminal = Publication(data=Raw(stored.terminal), offset=stored.seq) if stored.terminal else None
        self._parts: list[str] | str = (
            unpack(stored.compacted).decode() if stored.compacted else [part.decode() for part in stored.parts]
        )
        """The text of each record from the second on; or, of a compacted stream, all of it."""
        self.size = stored.size + ENTRY_BYTES
        self._whole: Publication | None = None

    def extend(self, publications: Iterable[Publication]) -> None:
        """Go on with what the channel has had behind `offset`. Raises StreamError for what belongs to no stream."""
        for publication in publications:
            if publication.offset != self.offset + 1 or not isinstance(self._parts, list):
                continue
            try:
                record = record_of(publication)
            except msgspec.MsgspecError as error:
                raise StreamError("somebody else has published to a stream") from error
            if record.type == "delta":
                self._parts.append(record.text)
                self.size += len(record.text)
            else:
                self.terminal = publication
                self.status = record.type
            self.offset += 1
            self._whole = None

    def since(self, offset: int) -> list[Publication]:
        """What a client needs that has everything up to `offset` (0 = nothing): one snapshot, and the end if it is
        there."""
        if offset >= self.offset:
            return []
        newest = self.offset - (self.terminal is not None)
        end = [self.terminal] if self.terminal is not None else []
        if offset == newest:
            return end
        if offset and isinstance(self._parts, list):
            text = "".join(self._parts[offset - 1 :])
            return [snapshot(self.generation, self.status, offset, newest, text), *end]
        if self._whole is None:
            text = "".join(self._parts)
            self._whole = snapshot(self.generation, self.status, 0, newest, text)
        return [self._whole, *end]


class StreamViews:
    """The views of one worker. Everything happens on the loop's thread."""

    def __init__(self, store: ReadsStreams, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._views: dict[str, tuple[View, float]] = {}
        """Least recently used first, each with the time at which it was read."""
        self._used_at: dict[str, float] = {}
        self._reading: dict[str, asyncio.Future[View | None]] = {}
        self._bytes = 0
        self._redis_back_at = float("-inf")

    def redis_is_back(self) -> None:
        """Redis is there (again): it may have lost its data."""
        self._redis_back_at = self._clock.monotonic()

    @property
    def may_come_back(self) -> bool:
        """Whether Redis may have lost streams whose producers are about to restore them."""
        return self._clock.monotonic() - self._redis_back_at < LOSS_S

    def get(self, key: str) -> View | None:
        """The view that is kept of a stream, if any."""
        found = self._views.get(key)
        now = self._clock.monotonic()
        if found is None or now - found[1] > found[0].good_for_s:
            self.drop(key)
            return None
        self._used_at.pop(key, None)
        self._used_at[key] = now
        return found[0]

    def drop(self, key: str) -> None:
        """Forget a view."""
        found = self._views.pop(key, None)
        self._used_at.pop(key, None)
        if found is not None:
            self._bytes -= found[0].size

    def grown(self, view: View, before: int) -> None:
        """A view that is kept had `before` bytes and has more now."""
        self._bytes += view.size - before
        self._make_room()

    def read(self, key: str) -> asyncio.Future[View | None]:
        """The stream as Redis has it; None = there is none. Raises BrokerBusy, the future BrokerError, StreamError."""
        reading = self._reading.get(key)
        if reading is None:
            stored = self._store.read(key)
            reading = self._reading[key] = asyncio.get_running_loop().create_future()
            stored.add_done_callback(partial(self._came, key, reading))
        return reading

    def _came(
        self, key: str, reading: asyncio.Future[View | None], stored: asyncio.Future[StoredStream | None]
    ) -> None:
        del self._reading[key]
        if reading.done():
            return
        if stored.cancelled():
            reading.cancel()
            return
        error: BaseException | None = stored.exception()
        view = None
        if error is None:
            found = stored.result()
            try:
                view = View(found) if found is not None else None
            except (StreamError, UnicodeDecodeError) as unreadable:
                error = StreamError(f"the text of a stream cannot be read: {unreadable}")
        if error is not None:
            fail(reading, error)
            return
        self.drop(key)
        if view is not None and not view.expired:
            self._views[key] = (view, self._clock.monotonic())
            self._used_at[key] = self._clock.monotonic()
            self._bytes += view.size
            self._make_room()
        reading.set_result(view)

    def _make_room(self) -> None:
        """Drop what nobody uses, and the least recently used above the limit. The newest stays."""
        now = self._clock.monotonic()
        for key, used_at in list(self._used_at.items())[:-1]:
            if self._bytes <= KEPT_BYTES and now - used_at <= UNUSED_S:
                break
            self.drop(key)
