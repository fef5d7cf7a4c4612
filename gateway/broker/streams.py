"""Token streams in Redis: one script makes every change (`lua/stream.lua` describes the keys), another reads.

A stream is the channel `stream:<key>` with a log of its own kind: its epoch is the generation of the stream, its offset
the number of the record. So feeds follow it, heal and recover like any channel with history, while the text
stands beside the log, which may be short. The rule that is easiest to break: nothing but this script publishes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from gateway.broker.commands import Argument, CommandQueue
from gateway.broker.scripts import Script, converted
from protocol.redis_contract import (
    log_key,
    meta_key,
    publish_channel,
    stream_key,
    stream_parts_key,
    stream_text_key,
    streams_key,
    streams_keys,
)

NAMESPACE: Final = "stream"
"""The namespace whose channels are token streams."""

Mode = Literal["new", "once", "replace", "restore", "adopt"]
Ending = Literal["finished", "failed", "cancelled", "truncated"]
OutcomeName = Literal["ok", "gone", "superseded", "active", "ended", "gap", "full", "denied"]


def stream_channel(key: str) -> str:
    """The channel of a stream."""
    return f"{NAMESPACE}:{key}"


class Outcome(NamedTuple):
    """What became of a change. `status` and `seq` are those of the stream that there is then."""

    name: OutcomeName
    status: str
    seq: int
    """Number of the newest record."""
    more: bytes
    """By name: the generation that there is, the terminal record, bytes that are left, workers that listen."""


class StoredStream(NamedTuple):
    """One stream, read at one moment."""

    generation: str
    status: str
    """`active`, or how it ended."""
    owner: str
    seq: int
    """Number of the newest record."""
    size: int
    """Bytes of the text, all of it."""
    length: int
    """Characters (code points) of the text, all of it."""
    terminal: bytes
    """The terminal record as JSON; empty while the stream is active."""
    behind: int
    """The parts are the text of the records after this one."""
    parts: list[bytes]
    compacted: bytes
    """The whole text, encoded, instead of the parts; empty = not compacted."""
    in_parts: bool
    """Whether Redis has the text in parts."""
    left_ms: int
    """Life that the text has left; negative = there is none."""

    @property
    def expired(self) -> bool:
        """Whether there was text, and Redis has it no more."""
        return self.size > 0 and not self.in_parts and not self.compacted


class Life(NamedTuple):
    """How long a stream lives, and how large it grows."""

    lease_ms: int
    text_ms: int
    remember_ms: int
    max_bytes: int


class StreamStore:
    """Changes and reads token streams. Every method raises BrokerBusy at once, its future another BrokerError."""

    def __init__(self, writes: CommandQueue, reads: CommandQueue, *, prefix: str) -> None:
        """Two queues, so that no token waits behind large answers."""
        self._writes = writes
        self._reads = reads
        self._prefix = prefix
        self._change = Script("stream")
        self._read = Script("stream_read")

    def ended_channel(self, key: str) -> bytes:
        """The Redis channel that tells when `key`, and others, are ended by somebody else than their producer."""
        return streams_key(self._prefix, key)

    def publish_channel(self, key: str) -> bytes:
        """The Redis channel with the records of a stream."""
        return publish_channel(self._prefix, stream_channel(key))

    def open(
        self, key: str, generation: str, owner: str, life: Life, mode: Mode, producer: str = ""
    ) -> asyncio.Future[Outcome]:
        """Register a generation: ok, active, superseded (also one that was replaced), or ended (it had been opened
        before; in mode `once`: another has finished). `adopt` takes over one that is registered, as `producer`; also
        gone.
        """
        return self._run("open", key, generation, owner, *life, mode, producer)

    def append(self, key: str, generation: str, first: int, texts: Sequence[bytes]) -> asyncio.Future[Outcome]:
        """Append texts as the records from `first` on; what the stream has of them is left out. Renews the lease."""
        size = sum(map(len, texts))
        return self._run("append", key, generation, first, *texts, size=size)

    def end(self, key: str, generation: str, status: Ending, extra: bytes, newest: int) -> asyncio.Future[Outcome]:
        """The terminal record, with the fields of the JSON object `extra`, behind the record `newest`."""
        return self._run("end", key, generation, status, extra, newest, size=len(extra))

    def renew(self, key: str, generation: str) -> asyncio.Future[Outcome]:
        """Renew the lease."""
        return self._run("renew", key, generation)

    def cancel(self, key: str, generation: str = "", by: str = "") -> asyncio.Future[Outcome]:
        """End it for its owner `by` ("" = for a backend): ok, ended (it was over before), denied, gone, superseded."""
        return self._run("cancel", key, generation, by)

    def lose(self, key: str, generation: str) -> asyncio.Future[Outcome]:
        """End it as `failed` if its lease is over."""
        return self._run("lose", key, generation)

    def compact(self, key: str, generation: str, text: bytes) -> asyncio.Future[Outcome]:
        """Keep the whole text, encoded, in place of the parts. For streams that have ended."""
        return self._run("compact", key, generation, text, size=len(text))

    def read(self, key: str, behind: int = 0) -> asyncio.Future[StoredStream | None]:
        """The stream, with the text of the records after `behind` (all of it when it is compacted); None = none."""
        keys = (
            stream_key(self._prefix, key),
            stream_parts_key(self._prefix, key),
            stream_text_key(self._prefix, key),
        )
        return converted(self._read.submit(self._reads, keys, (behind,)), _stored)

    async def due(self, now_ms: int, limit: int) -> list[str]:
        """Keys of streams that somebody has to look after: their leases are over, or they want to be compacted.

        About `limit`: so many of each of the sets that there are.
        """
        asked = [
            self._writes.submit("ZRANGEBYSCORE", each, 0, now_ms, "LIMIT", 0, limit)
            for each in streams_keys(self._prefix)
        ]
        return [key.decode() for found in await asyncio.gather(*asked) for key in found]

    def forget_due(self, key: str) -> asyncio.Future[Any]:
        """Nobody has to look after it: there is no such stream any more."""
        return self._writes.submit("ZREM", streams_key(self._prefix, key), key)

    def now_ms(self) -> asyncio.Future[int]:
        """The time of Redis, ms since 1970 UTC."""
        return converted(self._writes.submit("TIME"), lambda time: int(time[0]) * 1000 + int(time[1]) // 1000)

    def _run(
        self, operation: str, key: str, generation: str, *arguments: Argument, size: int = 0
    ) -> asyncio.Future[Outcome]:
        channel = stream_channel(key)
        keys = (
            stream_key(self._prefix, key),
            stream_parts_key(self._prefix, key),
            stream_text_key(self._prefix, key),
            log_key(self._prefix, channel),
            meta_key(self._prefix, channel),
            streams_key(self._prefix, key),
        )
        words = (operation, key, publish_channel(self._prefix, channel), generation, *arguments)
        return converted(self._change.submit(self._writes, keys, words, size=size), _outcome)


def _outcome(answer: Any) -> Outcome:
    name, status, seq, more = answer
    return Outcome(name.decode(), status.decode(), int(seq), more if isinstance(more, bytes) else str(more).encode())


def _stored(answer: Any) -> StoredStream | None:
    if not answer:
        return None
    generation, status, owner, seq, size, length, terminal, behind, parts, compacted, in_parts, left_ms = answer
    return StoredStream(
        generation.decode(),
        status.decode(),
        owner.decode(),
        int(seq),
        int(size),
        int(length),
        terminal,
        int(behind),
        parts,
        compacted,
        bool(in_parts),
        int(left_ms),
    )
