"""`info`, and the list in Redis from which it is made: every worker of every node.

The control process of a node writes what the counters of its workers say, every few seconds. One entry is one worker
process: its numbers are exact. (A user with connections to two workers is counted by both, as on two machines.)
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from gateway import __version__
from gateway.clock import Clock
from gateway.control.bus import RunsCommands, broker_errors
from gateway.control.fleet import Fleet
from gateway.control.latency import LatencyReport
from gateway.control.methods import Method
from gateway.errors import BrokerError
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.metrics.names import CHANNELS, CLIENTS, STARTED_S, SUBSCRIPTIONS, USERS
from protocol.redis_contract import nodes_key

INTERVAL_S: Final = 1.0
"""Time between two writes."""
GONE_AFTER_S: Final = 15
"""Age from which on an entry does not count any more."""
FORGOTTEN_AFTER_S: Final = 60
"""Age from which on whoever sees an entry removes it."""


class InfoRequest(msgspec.Struct):
    pass


class Node(msgspec.Struct):
    """One worker process. `uptime` in seconds."""

    uid: str
    name: str
    version: str = ""
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    uptime: int = 0


class InfoResult(msgspec.Struct):
    nodes: list[Node]
    latency: LatencyReport
    """Of the gateway that was asked: all its processes. What `latency` says, or said within the last 0.1 s."""


class _Entry(Node):
    at: float = 0
    """When it was written, seconds since 1970 UTC."""


class NodeRegistry:
    """Writes the workers of this node, reads those of all nodes."""

    def __init__(
        self, commands: RunsCommands, table: CounterTable, fleet: Fleet, clock: Clock, *, prefix: str, node: str
    ) -> None:
        self._commands = commands
        self._table = table
        self._fleet = fleet
        self._clock = clock
        self._key = nodes_key(prefix)
        self._node = node
        self._log = get_logger()

    async def run(self) -> NoReturn:
        """Write until cancelled. A Redis that is away is not worth a line here: the workers say so."""
        while True:
            try:
                await self.write()
            except BrokerError as error:
                self._log.debug("nodes not written", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def write(self) -> None:
        """Write every worker of this node that is well, or at least alive. Raises BrokerError."""
        now = self._clock.time()
        alive = {worker.name for worker in self._fleet.workers() if worker.state in ("ready", "not_ready")}
        rows = dict(self._table.live_rows())
        fields: list[bytes | str] = []
        for slot, row in rows.items():
            name = f"edge-{slot + 1}"
            if name in alive:
                uid = f"{self._node}/{name}"
                entry = _Entry(
                    uid=uid,
                    name=f"{platform.node()}/{name}",
                    version=__version__,
                    num_clients=row[CLIENTS],
                    num_users=row[USERS],
                    num_subs=row[SUBSCRIPTIONS],
                    num_channels=row[CHANNELS],
                    uptime=max(0, int(now - row[STARTED_S])),
                    at=now,
                )
                fields += [uid, msgspec.json.encode(entry)]
        if fields:
            await self._commands.submit("HSET", self._key, *fields)
            await self._commands.submit("EXPIRE", self._key, FORGOTTEN_AFTER_S)

    async def read(self) -> list[Node]:
        """Every worker that was written lately, on all nodes; removes what is long gone. Raises BrokerError."""
        now = self._clock.time()
        values = await self._commands.submit("HVALS", self._key)
        entries = [entry for value in values if (entry := _decoded(value)) is not None]
        gone = [entry.uid for entry in entries if entry.at < now - FORGOTTEN_AFTER_S]
        if gone:
            await self._commands.submit("HDEL", self._key, *gone)
        found = [entry for entry in entries if entry.at >= now - GONE_AFTER_S]
        return [msgspec.convert(msgspec.to_builtins(entry), Node) for entry in sorted(found, key=lambda each: each.uid)]


def _decoded(value: bytes) -> _Entry | None:
    """None = of a version that writes something else."""
    try:
        return msgspec.json.decode(value, type=_Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def info_method(registry: NodeRegistry, report: Callable[[], LatencyReport]) -> Method[InfoRequest]:
    """`info`."""

    async def call(_request: InfoRequest) -> InfoResult:
        with broker_errors():
            return InfoResult(await registry.read(), report())

    summary = "Every worker of every node, and how long operations take here"
    return Method("info", summary, InfoRequest, InfoResult, call)
