"""The few Redis commands that a subscriber connection sends, as RESP2 bytes (redis.io/docs: Redis serialization)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

BATCH = 500
"""Channels in one SUBSCRIBE: large enough to be cheap, small enough not to stall Redis."""


class Dialect(NamedTuple):
    """Which words a connection uses: those of pub/sub, or of sharded pub/sub (Redis 7)."""

    subscribe: bytes
    unsubscribe: bytes
    confirmed: bytes
    message: bytes
    alone: bool
    """One channel in each command."""


PLAIN: Final = Dialect(b"SUBSCRIBE", b"UNSUBSCRIBE", b"subscribe", b"message", alone=False)
SHARDED: Final = Dialect(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"ssubscribe", b"smessage", alone=True)

PING = b"*1\r\n$4\r\nPING\r\n"


def command(*parts: bytes) -> bytes:
    """One command."""
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))


def batches(channels: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """`channels` in groups of at most BATCH."""
    batch: list[bytes] = []
    for channel in channels:
        batch.append(channel)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
