"""`info`: every worker of every node that shares this Redis.

The control process of each node writes down, every few seconds, what the counters of its workers say. One entry is one
worker process, so its numbers are exact; those of `num_users` and `num_channels` cannot be added up, because a user or
a channel may be on several workers. Times are those of Redis' clock: the clocks of machines differ.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway import __version__
from gateway.broker import CommandQueue
from gateway.clock import Clock
from gateway.control.fleet import worker_name
from gateway.control.methods import Method
from gateway.errors import BrokerError
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.metrics.names import CHANNELS, CLIENTS, STARTED_S, SUBSCRIPTIONS, USERS
from protocol.redis_contract import nodes_key

RENEW_S: Final = 5.0
"""Time between two entries of a worker."""
STALE_S: Final = 15
"""Age from which on an entry does not count."""
GONE_S: Final = 60
"""Age from which on any node removes it."""


class Entry(msgspec.Struct, kw_only=True):
    """What Redis has of one worker."""

    name: str
    version: str
    num_clients: int
    num_subs: int
    num_users: int
    num_channels: int
    uptime: int
    at: int
    """When it was written, seconds since 1970 UTC."""


class Node(msgspec.Struct, kw_only=True):
    """One worker process."""

    uid: Annotated[str, Meta(description="Of this life of its gateway, and the worker")]
    name: Annotated[str, Meta(description="Host and worker: web1/edge-1")]
    version: str
    num_clients: int
    num_subs: int
    num_users: int
    num_channels: int
    uptime: Annotated[int, Meta(description="Seconds since the worker started")]


class InfoResult(msgspec.Struct):
    """Every worker of every node, by name."""

    nodes: list[Node]


class InfoRequest(msgspec.Struct):
    """Nothing to say."""


class NodeRegistry:
    """Writes the entries of this node, and reads those of all."""

    def __init__(
        self, table: CounterTable, queue: CommandQueue, clock: Clock, *, prefix: str, node: str, host: str
    ) -> None:
        """`node`: unique in the fleet; `host`: for people."""
        self._table = table
        self._queue = queue
        self._clock = clock
        self._key = nodes_key(prefix)
        self._node = node
        self._host = host

    async def run(self) -> None:
        """Keep the entries fresh until cancelled."""
        while True:
            try:
                await self.renew()
            except BrokerError as error:
                # Redis being away is told by others, loudly.
                get_logger().debug("node entries not renewed", reason=str(error))
            await asyncio.sleep(RENEW_S)

    async def renew(self) -> list[Node]:
        """Write the entries of this node, remove those of nodes that are gone; every node. Raises BrokerError."""
        now = await self._now()
        own = {uid: encode_entry(entry) for uid, entry in self._own(now).items()}
        sent = []
        if own:
            flat = [part for pair in own.items() for part in pair]
            sent = [self._queue.submit("HSET", self._key, *flat), self._queue.submit("EXPIRE", self._key, 2 * GONE_S)]
        reading = self._queue.submit("HGETALL", self._key)
        for done in sent:
            await done
        entries = {_text(uid): _decoded(value) for uid, value in _pairs(await reading)}
        mine = f"{self._node}/"
        gone = [
            uid
            for uid, entry in entries.items()
            if entry is None or now - entry.at > GONE_S or (uid.startswith(mine) and uid not in own)
        ]
        if gone:
            await self._queue.submit("HDEL", self._key, *gone)
        fresh = {
            uid: entry
            for uid, entry in entries.items()
            if entry is not None and now - entry.at <= STALE_S and uid not in gone
        }
        return sorted((_node(uid, entry) for uid, entry in fresh.items()), key=lambda node: (node.name, node.uid))

    async def withdraw(self) -> None:
        """Remove the entries of this node. Raises BrokerError."""
        uids = [f"{self._node}/{worker_name(slot)}" for slot in range(self._table.rows)]
        await self._queue.submit("HDEL", self._key, *uids)

    async def _now(self) -> int:
        return int((await self._queue.submit("TIME"))[0])

    def _own(self, now: int) -> dict[str, Entry]:
        here = self._clock.time()
        return {
            f"{self._node}/{worker_name(slot)}": Entry(
                name=f"{self._host}/{worker_name(slot)}",
                version=__version__,
                num_clients=row[CLIENTS],
                num_subs=row[SUBSCRIPTIONS],
                num_users=row[USERS],
                num_channels=row[CHANNELS],
                uptime=max(0, int(here) - row[STARTED_S]),
                at=now,
            )
            for slot, row in self._table.live_rows()
        }


def encode_entry(entry: Entry) -> bytes:
    """An entry as Redis has it."""
    return msgspec.json.encode(entry)


def _decoded(value: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(value, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # of a version that writes something else


def _node(uid: str, entry: Entry) -> Node:
    return Node(
        uid=uid,
        name=entry.name,
        version=entry.version,
        num_clients=entry.num_clients,
        num_subs=entry.num_subs,
        num_users=entry.num_users,
        num_channels=entry.num_channels,
        uptime=entry.uptime,
    )


def _pairs(answer: Any) -> list[tuple[bytes, bytes]]:
    """The answer of HGETALL, as the client library gives it."""
    if isinstance(answer, dict):
        return list(answer.items())
    return list(zip(answer[::2], answer[1::2], strict=True))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def info_method(registry: NodeRegistry) -> Method[InfoRequest]:
    """`info`."""

    async def info(_request: InfoRequest) -> InfoResult:
        return InfoResult(await registry.renew())

    return Method(
        "info", "Every worker of every node: version, clients, channels", InfoRequest, InfoResult, info, example="{}"
    )
