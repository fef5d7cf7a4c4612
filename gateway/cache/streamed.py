"""Answers that are texts: the flight of one, what its producer writes to, and what a caller gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Literal

import msgspec

from gateway.broker import stream_channel
from gateway.cache.flight import Bus, Flight, Plan
from gateway.cache.text import Ending, Status, Text
from gateway.cache.values import Value, ValueUnreadable, pack_payload, unpack_payload
from gateway.errors import (
    AnswerFailed,
    AnswerRefused,
    AnswerRestarted,
    BrokerUnavailable,
    CacheInvalid,
    StreamCancelled,
)
from gateway.streams import Record

CHARACTERS: Final = 8_388_608
"""Length of an answer at which its producer is stopped: no stream may have more bytes."""
USAGE_BYTES: Final = 60_000
"""Size of `usage` as JSON; a terminal record has 64 KiB."""
REFUSAL_BYTES: Final = 4096

Level = Literal["produced", "redis", "local", "coalesced", "stale", "bypass"]


class Draft:
    """What `produce` writes to."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._length = 0
        self.truncated = ""

    async def append(self, text: str) -> None:
        """Say the next piece. Raises CacheInvalid for what is no text, AnswerFailed when there is too much of it."""
        if not isinstance(text, str):
            raise CacheInvalid("text", f"is a {type(text).__name__}, not a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CacheInvalid("text", f"{error.reason} at {error.start}") from error
        self._length += len(text)
        if self._length > CHARACTERS:
            raise AnswerFailed("too_large", f"the answer has more than {CHARACTERS} characters")
        self._text.add(text)
        await asyncio.sleep(0)  # a producer that never waits must not keep the pieces from their way

    def truncate(self, reason: str = "length") -> None:
        """The answer is not whole, as when a model has reached its number of tokens: it will not be kept."""
        self.truncated = reason


Produce = Callable[[Draft], Awaitable[Any]]
"""Writes one answer. Gives its usage (any JSON), or None."""


class StreamedFlight(Flight):
    """A flight whose answer is the text of its stream."""

    def __init__(self, bus: Bus, plan: Plan, produce: Produce, error_ttl_s: float) -> None:
        super().__init__(bus, plan)
        self._producer = produce
        self._error_ttl_s = error_ttl_s
        self._draft = Draft(self.text)

    async def _produce(self) -> Any:
        self._draft = Draft(self.text)
        usage = await self._producer(self._draft)
        try:
            size = len(msgspec.json.encode(usage))
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise CacheInvalid("usage", f"cannot be written as JSON: {error}") from error
        if size > USAGE_BYTES:
            raise CacheInvalid("usage", f"has {size} bytes as JSON, {USAGE_BYTES} are allowed")
        return usage

    async def _made(self, made: Any, error: BaseException | None) -> Ending:
        if error is None:
            truncated = self._draft.truncated
            ending = Ending("truncated", made, truncated) if truncated else Ending("finished", made)
        else:
            ending = ending_of(error)
        self.text.end(ending)
        await keep_refusal(self.bus, self.plan.digest, error, self._error_ttl_s)
        return ending

    async def _followed(self, record: Record) -> bool:
        self.text.end(await self._ending(record))
        return True

    async def _ending(self, record: Record) -> Ending:
        if record.type == "finished":
            return Ending("finished", record.usage)
        if record.type == "truncated":
            return Ending("truncated", record.usage, record.reason)
        if record.type == "cancelled":
            return ending_of(StreamCancelled(self.plan.key, "cancelled"))
        return ending_of(await failure_of(self.bus, self.plan.digest, record))


class Answer:
    """An answer, at whatever time it comes. Iterate over it, or take `text()`; leaving it ends nothing."""

    def __init__(self, key: str, level: Level, text: Text) -> None:
        self.key = key
        """Of the stream."""
        self.channel = stream_channel(key)
        """What clients subscribe to: as the stream's owner, or with a subscription token."""
        self.level = level
        """Where it comes from: `produced` (by this call), `redis` or `local` (it was there), `coalesced` (somebody else
        is producing it), `stale` (a local copy while Redis is away), `bypass` (produced, and not to be kept)."""
        self._text = text

    @property
    def stale(self) -> bool:
        """Whether it is a local copy that could not be compared with Redis."""
        return self.level == "stale"

    @property
    def generation(self) -> str:
        """Of the stream; "" = not known (yet), or there is no stream because Redis is away."""
        return self._text.generation

    @property
    def status(self) -> Status | Literal["active"]:
        """`active`, or how it has ended."""
        return self._text.ending.status if self._text.ending is not None else "active"

    @property
    def usage(self) -> Any:
        """What its producer said of it; None before the end."""
        return self._text.ending.usage if self._text.ending is not None else None

    async def text(self) -> str:
        """The whole text, once it has ended. Raises AnswerFailed, StreamCancelled, what `produce` raises."""
        while self._text.ending is None:
            await self._text.wait_changed()
        _raise(self._text.ending)
        return self._text.joined()

    async def __aiter__(self) -> AsyncIterator[str]:
        """The text in pieces, from the beginning. Raises what `text` does, and AnswerRestarted."""
        text = self._text
        handed: list[str] = []
        at, restarts, expected = 0, text.restarts, ""
        while True:
            if text.restarts != restarts:
                at, restarts, expected = 0, text.restarts, "".join(handed)
            while at < len(text.parts) and text.restarts == restarts:
                piece = text.parts[at]
                at += 1
                if expected:
                    said = min(len(piece), len(expected))
                    if piece[:said] != expected[:said]:
                        raise AnswerRestarted(len("".join(handed)))
                    piece, expected = piece[said:], expected[said:]
                if piece:
                    handed.append(piece)
                    yield piece
            if text.restarts != restarts:
                continue
            if text.ending is not None:
                _raise(text.ending)
                if expected:
                    raise AnswerRestarted(len("".join(handed)))
                return
            await text.wait_changed()


def _raise(ending: Ending) -> None:
    if ending.error is not None:
        raise ending.error


def ending_of(error: BaseException) -> Ending:
    """How a stream ends that failed with `error`. Clients see the words of AnswerFailed, and of nothing else."""
    if isinstance(error, StreamCancelled):
        return Ending("cancelled", code="cancelled", error=error)
    if isinstance(error, AnswerFailed):
        return Ending("failed", code=error.code, message=error.message, error=error)
    return Ending("failed", code="error", message="the producer failed", error=error)


async def keep_refusal(bus: Bus, digest: str, error: BaseException | None, ttl_s: float) -> None:
    """Keep AnswerRefused for a short time."""
    if not isinstance(error, AnswerRefused):
        return
    payload = pack_payload([error.code[:200], error.message[:1000]], REFUSAL_BYTES)
    try:
        await bus.remote.set(digest, Value("refusal", payload), ttl_s)
    except BrokerUnavailable:
        return  # it will be refused again


def refusal_of(value: Value) -> AnswerRefused:
    """Raises ValueUnreadable."""
    try:
        code, message = unpack_payload(value.payload)
    except (TypeError, ValueError) as error:
        raise ValueUnreadable("its refusal cannot be read") from error
    return AnswerRefused(str(code), str(message))


async def failure_of(bus: Bus, digest: str, record: Record) -> AnswerFailed:
    """What followers get of a stream that failed."""
    try:
        found = await bus.remote.get(digest)
        if found is not None and found[0].what == "refusal":
            refused = refusal_of(found[0])
            if refused.code == record.code:
                return refused
    except (BrokerUnavailable, ValueUnreadable):
        pass
    return AnswerFailed(record.code or "error", record.message)
