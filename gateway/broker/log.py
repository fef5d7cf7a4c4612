"""The log of a channel in Redis: the newest publications, each with its offset, and the position of the newest.

Only the scripts in `lua` write here, so that a publication is logged, numbered and delivered at one moment. The log has
a life of its own that ends a while after the last publication; the position lives longer, so that a client that comes
back late learns that it has missed something.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.broker.commands import CommandQueue
from gateway.broker.scripts import Script, converted
from protocol.position import Position
from protocol.redis_contract import Metadata, done_key, encode_metadata, log_key, meta_key, publish_channel
from protocol.replies import Publication

PAGE: Final = 1000
"""Publications in one read, at most."""
POSITION_TTL_S: Final = 30 * 86_400
"""Life of a position after the last publication or look, unless the log lives longer."""
DONE_TTL_S: Final = 300
"""Time for which an idempotency key is remembered."""

_metadata: Final = msgspec.json.Decoder(Metadata)


class Published(NamedTuple):
    """What became of a publication."""

    position: Position
    fresh: bool
    """False = not published: its idempotency key was known (then `position` is that of the first), or its version is
    not newer than the channel's (then it is the channel's)."""


class Page(NamedTuple):
    """Part of a log, and the channel's position, read at one moment."""

    publications: list[Publication]
    top: Position


class ChannelLog:
    """Appends to and reads the logs of all channels. Futures raise BrokerUnavailable and BrokerRefused."""

    def __init__(self, writes: CommandQueue, reads: CommandQueue, *, prefix: str) -> None:
        """Two queues, so that no publication waits behind large answers."""
        self._writes = writes
        self._reads = reads
        self._prefix = prefix
        self._publish = Script("publish")
        self._read = Script("read")

    def append(
        self,
        channel: str,
        data: bytes,
        metadata: Metadata,
        *,
        size: int,
        ttl_s: float,
        key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> asyncio.Future[Published]:
        """Log and deliver `data` (one line of JSON). `size`, `ttl_s`: bounds of the log. Raises BrokerBusy.

        `key`: with the same key again on that channel within five minutes nothing is published. `version` > 0: only if
        it is newer than that of the channel's last publication with a version, within one `version_epoch`.
        """
        keys = [log_key(self._prefix, channel), meta_key(self._prefix, channel)]
        if key:
            keys.append(done_key(self._prefix, f"{channel}:{key}"))
        ttl_ms = max(1, int(ttl_s * 1000))
        arguments = (
            publish_channel(self._prefix, channel),
            data,
            encode_metadata(metadata),
            size,
            ttl_ms,
            max(2 * ttl_ms, POSITION_TTL_S * 1000),
            _new_epoch(),
            DONE_TTL_S * 1000,
            version,
            version_epoch,
        )
        return converted(self._publish.submit(self._writes, keys, arguments, size=len(data)), _published)

    def read(self, channel: str, *, after: int, limit: int) -> asyncio.Future[Page]:
        """Publications after an offset, oldest first, at most `limit` (≤ PAGE; 0 = the position only).

        A channel without a position gets one: offset 0 of a new epoch. Raises BrokerBusy.
        """
        return self._page(channel, "after", after, limit)

    def read_back(self, channel: str, *, before: int | None, limit: int) -> asyncio.Future[Page]:
        """Publications before an offset (None = from the newest on), newest first, else as `read`."""
        if before is not None and before <= 1:
            return self._page(channel, "after", 0, 0)
        return self._page(channel, "before", before or 0, limit)

    def remove(self, channel: str) -> asyncio.Future[int]:
        """Empty the log. The position stays, so that nobody takes what comes next for something else."""
        return self._writes.submit("DEL", log_key(self._prefix, channel))

    def _page(self, channel: str, direction: str, offset: int, limit: int) -> asyncio.Future[Page]:
        keys = (log_key(self._prefix, channel), meta_key(self._prefix, channel))
        arguments = (direction, offset, max(0, min(limit, PAGE)), _new_epoch(), POSITION_TTL_S * 1000)
        return converted(self._read.submit(self._reads, keys, arguments), partial(_page))


def _new_epoch() -> str:
    return os.urandom(6).hex()


def _published(answer: Any) -> Published:
    offset, epoch, fresh = answer
    return Published(Position(offset=int(offset), epoch=epoch.decode()), fresh == 1)


def _page(answer: Any) -> Page:
    offset, epoch, entries = answer
    return Page([_publication(*entry) for entry in entries], Position(offset=int(offset), epoch=epoch.decode()))


def _publication(entry_id: bytes, fields: list[bytes]) -> Publication:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    meta = _metadata.decode(values[b"m"]) if values[b"m"] != b"-" else Metadata()
    offset = int(entry_id.partition(b"-")[0])
    return Publication(data=Raw(values[b"d"]), info=meta.info, tags=meta.tags, offset=offset)
