"""Publishing to whichever server is the master of a channel, and knowing that its successor would have it, too.

Replication is asynchronous: what a master has confirmed is lost if it dies before its replica has it. So nothing
counts as accepted here before `WAIT` says that a replica has it, and others still call it the master after that: one
that was cut off and comes back has followers until these are told of its successor, and what it confirms is discarded
with it a moment later. Until then a publication is sent again, with its key.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from loadtest.faults.publisher import KEY_LIFE_MS, PublishScript, client_of, position_of
from loadtest.fleet.cluster import ClusterFleet
from loadtest.fleet.sentinels import SentinelFleet
from protocol.position import Position
from protocol.redis_contract import done_key

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
            port = self._ports[channel] = await self._ask(channel)
        if port not in self._clients:
            self._clients[port] = client_of(port)
        return self._clients[port]

    async def check(self, channel: str) -> None:
        """Ask others whether the server that `of` gave is the master still. Raises RedisError when it is not."""
        port = self._ports[channel]
        if await self._ask(channel, besides=port) != port:
            raise RedisConnectionError(f"{channel} has another master")

    def forget(self, channel: str) -> None:
        """Something went wrong there: ask anew who the master is."""
        self._ports.pop(channel, None)

    async def _ask(self, channel: str, *, besides: int = 0) -> int:
        try:
            return (await asyncio.to_thread(self._fleet.master_of, channel, besides=besides)).port
        except LookupError as error:
            raise RedisConnectionError(f"{channel} has no master") from error


class ReplicatedScript(PublishScript):
    """As `PublishScript`, through `Masters`."""

    async def run(self, client: Any, channel: str, data: bytes, key: str) -> Position:
        """Publish, and wait until a replica has it. Raises RedisError."""
        try:
            server = await client.of(channel)
            async with server.pipeline(transaction=False) as pipeline:
                pipeline.eval(self.text, *self.arguments(channel, data, key))
                # WAIT is about the last write of this connection. When the key was known, the script wrote nothing.
                pipeline.pexpire(done_key(self.prefix, key, channel), KEY_LIFE_MS)
                pipeline.execute_command("WAIT", 1, WAIT_MS)
                answer, _, replicas = await pipeline.execute()
            if not replicas:
                raise RedisConnectionError("no replica has it yet")
            await client.check(channel)
        except RedisError:
            client.forget(channel)
            raise
        return position_of(answer)
