"""The Redis Stream that backends add publications to: `XADD <prefix>:ingest * channel <c> data <JSON> [key <k>]`.

Entries are read by a consumer group, so what was read and not acknowledged is never forgotten; and by one consumer at
a time, the one that holds the lease, so that they stay in order. Futures and coroutines raise BrokerError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gateway.broker.commands import Argument, CommandQueue
from gateway.broker.scripts import Script
from gateway.errors import BrokerRefused
from protocol.redis_contract import ingest_dead_key, ingest_key, ingest_lease_key

GROUP: Final = "relay"
BLOCK_MS: Final = 1000
"""Time that one read waits for entries: shorter than what Redis has to answer a command."""
MAX_FIELDS: Final = 32
"""Fields of an entry that are kept when it is given up."""


class Entry(NamedTuple):
    """One entry as it is in the stream."""

    id: str
    fields: dict[bytes, bytes]


class IngestStream:
    """The stream of one prefix, as one consumer."""

    def __init__(self, reads: CommandQueue, writes: CommandQueue, *, prefix: str, consumer: str) -> None:
        """Two queues: a read waits in its own."""
        self._reads = reads
        self._writes = writes
        self._key = ingest_key(prefix)
        self._dead_key = ingest_dead_key(prefix)
        self._lease_key = ingest_lease_key(prefix)
        self._consumer = consumer
        self._lease = Script("lease")

    async def lead(self, lease_s: float) -> bool:
        """Take or renew the lease; whether this consumer has it. 0 gives it back."""
        owned = await self._lease.submit(self._writes, [self._lease_key], [self._consumer, int(lease_s * 1000)])
        return bool(owned)

    async def create(self) -> None:
        """The stream and its group, unless they are there."""
        with contextlib.suppress(BrokerRefused):  # BUSYGROUP; anything else comes again with the first read
            await self._writes.submit("XGROUP", "CREATE", self._key, GROUP, "0", "MKSTREAM")

    async def take_over(self, after: str, count: int) -> tuple[str, list[Entry]]:
        """What others have read and not acknowledged, now this consumer's; where to go on, "0-0" = that was all."""
        answer = await self._writes.submit("XAUTOCLAIM", self._key, GROUP, self._consumer, 0, after, "COUNT", count)
        found = [each for each in answer[1] if each is not None and each[0] is not None]
        gone = [entry_id for entry_id, fields in found if not fields]
        if gone:  # Redis 6.2 names entries that were deleted meanwhile
            await self._writes.submit("XACK", self._key, GROUP, *gone)
        return _text(answer[0]), [_entry(entry_id, fields) for entry_id, fields in found if fields]

    async def read(self, count: int) -> list[Entry]:
        """New entries; waits for some, up to BLOCK_MS."""
        answer = await self._reads.submit(
            *("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, "BLOCK", BLOCK_MS),
            *("STREAMS", self._key, ">"),
        )
        streams = list(answer.values()) if isinstance(answer, dict) else [entries for _, entries in answer or ()]
        return [_entry(entry_id, fields) for entries in streams for entry_id, fields in entries if fields]

    def remove(self, ids: Sequence[str]) -> asyncio.Future[Any]:
        """These are done."""
        self._writes.submit("XACK", self._key, GROUP, *ids)
        return self._writes.submit("XDEL", self._key, *ids)

    def bury(self, entry: Entry, reason: str, keep: int) -> asyncio.Future[Any]:
        """Move an entry to the dead ones, of which about `keep` are kept."""
        fields: list[Argument] = [part for pair in list(entry.fields.items())[:MAX_FIELDS] for part in pair]
        size = sum(len(part) for part in fields if isinstance(part, bytes))
        self._writes.submit(
            *("XADD", self._dead_key, "MAXLEN", "~", keep, "*", "id", entry.id, "reason", reason, *fields), size=size
        )
        return self.remove([entry.id])

    async def trim(self, keep: int) -> int:
        """Drop the oldest entries beyond `keep`; how many."""
        return int(await self._writes.submit("XTRIM", self._key, "MAXLEN", keep))

    async def figures(self) -> tuple[int, float]:
        """Entries in the stream, and the age of the oldest in seconds."""
        length = self._writes.submit("XLEN", self._key)
        first = self._writes.submit("XRANGE", self._key, "-", "+", "COUNT", 1)
        now = self._writes.submit("TIME")
        entries, (seconds, micros) = await first, await now
        oldest_ms = int(_text(entries[0][0]).partition("-")[0]) if entries else 0
        age_s = int(seconds) + int(micros) / 1e6 - oldest_ms / 1000
        return int(await length), max(0.0, age_s) if entries else 0.0


def _entry(entry_id: Any, fields: Any) -> Entry:
    return Entry(_text(entry_id), dict(fields))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
