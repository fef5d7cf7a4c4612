"""The log of a channel in Redis: the newest publications, each with its offset, and the position of the newest.

Only the scripts in `lua` write here, so that a publication is logged, numbered and delivered at one moment. The log has
a life of its own that ends a while after the last publication; the position lives longer, so that a client that comes
back late learns that it has missed something.

Starting a script costs Redis several times what the script then does. So publications to one channel that wait for
Redis one behind the other go into one run (`_Batch`), each with an offset and an answer of its own. Publications of one
process to one channel keep their order; only where some are without history or with a version, the first ones after a
restart of Redis (which has forgotten the scripts) may come behind those.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.broker.commands import Argument, CommandQueue
from gateway.broker.scripts import Script, converted
from gateway.tasks import fail
from protocol.position import Position
from protocol.redis_contract import Metadata, done_key, encode_metadata, log_key, meta_key, publish_channel
from protocol.replies import Publication

PAGE: Final = 1000
"""Publications in one read, at most."""
POSITION_TTL_S: Final = 30 * 86_400
"""Life of a position after the last publication or look, unless the log lives longer."""
BATCH: Final = 100
"""Publications in one run of a script: Redis does nothing else meanwhile, some 0.5 ms."""
BATCH_BYTES: Final = 262_144
"""Bytes of data in one run of a script, about."""
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
        self._many = Script("publish_many")
        self._open: _Batch | None = None
        self._read = Script("read")
        self._once = Script("publish_once")
        self._fork = Script("fork")

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
        remember_s: float = DONE_TTL_S,
    ) -> asyncio.Future[Published]:
        """Log and deliver `data` (one line of JSON). `size`, `ttl_s`: bounds of the log. Raises BrokerBusy.

        `key`: with the same key again on that channel within `remember_s` nothing is published. `version` > 0: only if
        it is newer than that of the channel's last publication with a version, within one `version_epoch`.
        """
        keys = [log_key(self._prefix, channel), meta_key(self._prefix, channel)]
        if key:
            keys.append(done_key(self._prefix, key, channel))
        ttl_ms = max(1, int(ttl_s * 1000))
        if not version:
            bounds = _Bounds(size, ttl_ms, int(remember_s * 1000))
            return self._append_batched(channel, data, metadata, bounds, keys[2:])
        arguments = (
            publish_channel(self._prefix, channel),
            data,
            encode_metadata(metadata),
            size,
            ttl_ms,
            max(2 * ttl_ms, POSITION_TTL_S * 1000),
            _new_epoch(),
            int(remember_s * 1000),
            version,
            version_epoch,
        )
        return converted(self._publish.submit(self._writes, keys, arguments, size=len(data)), _published)

    def _append_batched(
        self, channel: str, data: bytes, metadata: Metadata, bounds: _Bounds, done: Sequence[bytes]
    ) -> asyncio.Future[Published]:
        batch = self._open
        if batch is None or self._writes.newest is not batch or not batch.takes(channel, bounds):
            batch = _Batch(self._many.digest, self._prefix, channel, bounds)
            published = batch.add(data, encode_metadata(metadata), done)
            answered = self._many.submit_growing(self._writes, batch)
            answered.add_done_callback(batch.answered)
            self._open = batch
            return published
        self._writes.grow(len(data))
        return batch.add(data, encode_metadata(metadata), done)

    def pass_on_once(self, channel: str, payload: bytes, *, key: str, remember_s: float) -> asyncio.Future[bool]:
        """Deliver a payload of the Redis contract to a channel without history, unless its `key` is known
        there; whether it was delivered. Raises BrokerBusy."""
        arguments = (publish_channel(self._prefix, channel), payload, int(remember_s * 1000))
        keys = (done_key(self._prefix, key, channel),)
        return converted(self._once.submit(self._writes, keys, arguments, size=len(payload)), lambda given: given == 1)

    def remember(self, channel: str, key: str, remember_s: float) -> asyncio.Future[int]:
        """Change the time for which an idempotency key is still known. Raises BrokerBusy."""
        return self._writes.submit("PEXPIRE", done_key(self._prefix, key, channel), int(remember_s * 1000))

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

    def forked(self, channel: str, epoch: str) -> asyncio.Future[Any]:
        """The log has other publications at offsets of `epoch` that were delivered: it gets a new epoch.

        So it is when a replica without the last writes takes the place of its master. Whoever comes back with the old
        epoch learns that something is missing. Raises BrokerBusy.
        """
        return self._fork.submit(self._writes, (meta_key(self._prefix, channel),), (epoch, _new_epoch()))

    def _page(self, channel: str, direction: str, offset: int, limit: int) -> asyncio.Future[Page]:
        keys = (log_key(self._prefix, channel), meta_key(self._prefix, channel))
        arguments = (direction, offset, max(0, min(limit, PAGE)), _new_epoch(), POSITION_TTL_S * 1000)
        return converted(self._read.submit(self._reads, keys, arguments), partial(_page))


class _Bounds(NamedTuple):
    size: int
    ttl_ms: int
    remember_ms: int


class _Batch:
    """Publications to one channel in one run of `publish_many.lua`. Grows while it is the newest in the queue."""

    __slots__ = ("_bounds", "_channel", "_digest", "_done", "_prefix", "_published", "_words", "size")

    def __init__(self, digest: str, prefix: str, channel: str, bounds: _Bounds) -> None:
        self._digest = digest
        self._prefix = prefix
        self._channel = channel
        self._bounds = bounds
        self._done: list[bytes] = []
        self._words: list[bytes] = []
        self._published: list[asyncio.Future[Published]] = []
        self.size = 0

    @property
    def operations(self) -> int:
        return len(self._published)

    @property
    def key(self) -> bytes:
        return log_key(self._prefix, self._channel)

    def takes(self, channel: str, bounds: _Bounds) -> bool:
        """Whether one more publication can go along."""
        full = len(self._published) >= BATCH or self.size >= BATCH_BYTES
        return not full and channel == self._channel and bounds == self._bounds

    def add(self, data: bytes, metadata: bytes, done: Sequence[bytes]) -> asyncio.Future[Published]:
        """One more. `done`: key of its idempotency key, if it has one."""
        self._words += (data, metadata, b"1" if done else b"0")
        self._done += done
        self.size += len(data)
        self._published.append(asyncio.get_running_loop().create_future())
        return self._published[-1]

    def arguments(self) -> tuple[Argument, ...]:
        keys = (log_key(self._prefix, self._channel), meta_key(self._prefix, self._channel), *self._done)
        return (
            "EVALSHA",
            self._digest,
            len(keys),
            *keys,
            publish_channel(self._prefix, self._channel),
            self._bounds.size,
            self._bounds.ttl_ms,
            max(2 * self._bounds.ttl_ms, POSITION_TTL_S * 1000),
            _new_epoch(),
            self._bounds.remember_ms,
            *self._words,
        )

    def answered(self, answer: asyncio.Future[Any]) -> None:
        """Tell whoever waits for one of the publications."""
        error = answer.exception()
        values = iter(answer.result() if error is None else ())
        for published in self._published:
            if error is None:
                position = _published((next(values), next(values), next(values)))
            if published.done():
                continue
            if error is None:
                published.set_result(position)
            else:
                fail(published, error)


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
