"""The few Redis commands that a subscriber connection sends, as RESP2 bytes (redis.io/docs: Redis serialization)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

BATCH = 500
"""Channels in one SUBSCRIBE: large enough to be cheap, small enough not to stall Redis."""

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
