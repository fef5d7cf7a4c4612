"""Publishing to whichever server is the master of a channel, and knowing that a replica has it, too.

Replication is asynchronous: what a master has confirmed is lost if it dies before its replica has it. So nothing
counts as accepted here before `WAIT` says that a replica has it; until then it is sent again, with its key.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from loadtest.faults.publisher import PublishScript, client_of, position_of
from loadtest.fleet.cluster import ClusterFleet
from loadtest.fleet.sentinels import SentinelFleet
from protocol.position import Position

WAIT_MS: Final = 300
"""Time that a replica has to say that it has a publication."""

RedisFleet = SentinelFleet | ClusterFleet


class Masters:
    """Clients of servers, by channel. For one lane: `WAIT` is about what the same connection has written."""

    def __init__(self, fleet: RedisFleet) -> None:
        self._fleet = fleet
        self._clients: dict[int, Redis] = {}
        self._ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def of(self, channel: str) -> Redis:
        """Raises RedisError when there is no master at the moment."""
        port = self._ports.get(channel)
        if port is None:
            try:
                port = (await asyncio.to_thread(self._fleet.master_of, channel)).port
            except (LookupError, StopIteration) as error:
                raise RedisConnectionError(f"{channel} has no master") from error
            self._ports[channel] = port
        if port not in self._clients:
            self._clients[port] = client_of(port)
        return self._clients[port]

    def forget(self, channel: str) -> None:
        """Something went wrong there: ask anew who the master is."""
        self._ports.pop(channel, None)


class ReplicatedScript(PublishScript):
    """As `PublishScript`, through `Masters`."""

    async def run(self, client: Any, channel: str, data: bytes, key: str) -> Position:
        """Publish, and wait until a replica has it. Raises RedisError."""
        try:
            server = await client.of(channel)
            async with server.pipeline(transaction=False) as pipeline:
                pipeline.eval(self.text, *self.arguments(channel, data, key))
                pipeline.execute_command("WAIT", 1, WAIT_MS)
                answer, replicas = await pipeline.execute()
        except RedisError:
            client.forget(channel)
            raise
        if not replicas:
            client.forget(channel)
            raise RedisConnectionError("no replica has it yet")
        return position_of(answer)
