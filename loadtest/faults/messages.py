"""Messages of the JSON protocol, as a client sees them, and the data of a publication.

Every subscriber of a channel gets the same bytes, so what only carries publications is decoded once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from loadtest.bench.chunks import PROTOCOL_PING

PING = PROTOCOL_PING
REMEMBERED_BYTES = 64 * 2**20


class Arrival(NamedTuple):
    """A publication with a position. `sequence` is the publisher's own number."""

    channel: str
    offset: int
    sequence: int


Json = dict[str, Any]


def payload(sequence: int, size: int) -> bytes:
    """The data of one publication, `size` bytes or a little more."""
    head = b'{"sequence":%d,"filling":"' % sequence
    return head + b"x" * max(0, size - len(head) - 2) + b'"}'


def arrival(channel: str, publication: Json) -> Arrival:
    """What a publication of the wire says. Without an offset (a channel without history) it has offset 0."""
    return Arrival(channel, publication.get("offset", 0), publication["data"]["sequence"])


def encode(*commands: Json) -> bytes:
    """Commands in one message."""
    return b"\n".join(map(orjson.dumps, commands))


class Decoder:
    """Shared by all clients of a process."""

    def __init__(self) -> None:
        self._known: dict[bytes, list[Arrival]] = {}
        self._known_bytes = 0

    def decode(self, message: bytes) -> Sequence[Arrival | Json]:
        """The publications, pushes and replies of one message, in order. Raises ValueError for anything else."""
        known = self._known.get(message)
        if known is not None:
            return known
        items: list[Arrival | Json] = []
        for line in message.split(b"\n"):
            document = orjson.loads(line)
            push = document.get("push")
            items.append(arrival(push["channel"], push["pub"]) if push and "pub" in push else document)
        arrivals = [item for item in items if isinstance(item, Arrival)]
        if arrivals and len(arrivals) == len(items):
            if self._known_bytes > REMEMBERED_BYTES:
                self._known.clear()
                self._known_bytes = 0
            self._known[message] = arrivals
            self._known_bytes += len(message)
        return items
