"""A Redis Cluster: which master has which slot, and a client for each.

redis-py speaks to each server; the map is our own. Its cluster client sends a command again after an error that leaves
open whether it was carried out, and its pub/sub is the one that costs ten times as much.

The map is read (`CLUSTER SLOTS`) from whichever server answers first, those known before the ones configured, and
corrected by what servers say (MOVED). It may be old: whoever uses it must be prepared to be sent elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from redis.asyncio import ConnectionPool
from redis.asyncio import Redis as RedisClient
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.config.redis_url import Address
from gateway.errors import BrokerUnavailable
from gateway.log import get_logger
from gateway.storage.endpoint import Endpoint
from gateway.storage.lost import closed, lost_is_said

SLOTS: Final = 16_384
ANSWER_S: Final = 1.0
"""Time that one server has to say which slots are where; then the next is asked."""
REST_S: Final = 0.1
"""Time between two looks at the map that errors have caused."""


class Cluster:
    """The map and the clients. One for each process and event loop; `aclose` at the end."""

    def __init__(self, hosts: tuple[Address, ...], server: Endpoint, options: Mapping[str, Any]) -> None:
        """`server`: how to log in to each; its address is not used. `options`: for redis-py's connections."""
        self._hosts = hosts
        self._server = server
        self._options = {name: value for name, value in options.items() if name not in ("host", "port", "db")}
        self._owners: list[Address | None] = [None] * SLOTS
        self._clients: dict[Address, RedisClient] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self._log = get_logger(redis=str(self))
        self.masters: tuple[Address, ...] = ()
        """Every server that has slots; () = nothing is known yet."""

    def __str__(self) -> str:
        """For logs: never with credentials."""
        return f"cluster of {','.join(f'{host}:{port}' for host, port in self._hosts)}"

    def slot_owner(self, slot: int) -> Address | None:
        """As `owner`, of a slot."""
        return self._owners[slot]

    def owner(self, key: bytes | str) -> Address | None:
        """The master that has the slot of a key or a sharded channel; None = not known, or nobody has."""
        return self._owners[key_slot(key if isinstance(key, bytes) else key.encode())]

    def client(self, address: Address) -> RedisClient:
        """For commands to one server."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = self._make(address)
        return client

    def endpoint(self, address: Address) -> Endpoint:
        """For a subscriber connection to one server."""
        return msgspec.structs.replace(self._server, host=address[0], port=address[1])

    def moved(self, slot: int, address: Address) -> None:
        """A server says that another one has the slot."""
        self._owners[slot] = address
        if address not in self.masters:
            self.masters = (*self.masters, address)

    async def refresh(self) -> None:
        """Read the map, together with whoever wants it at the same time. Raises BrokerUnavailable."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read())
            self._reading.add_done_callback(_look_at_error)
        await asyncio.shield(self._reading)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, BrokerUnavailable):
                await self._reading
        for client in self._clients.values():
            await closed(client.aclose())
        self._clients.clear()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._read_at + REST_S - loop.time()))
        self._read_at = loop.time()
        reasons = []
        for address in dict.fromkeys((*self.masters, *self._hosts)):
            try:
                async with asyncio.timeout(ANSWER_S):
                    with lost_is_said():
                        answer = await self.client(address).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except (RedisError, OSError, TimeoutError) as error:
                reasons.append(f"{address[0]}:{address[1]}: {str(error) or type(error).__name__}")
                continue
            self._take(address, answer)
            if self.masters:
                await self._close_unknown()
                return
            reasons.append(f"{address[0]}:{address[1]} knows no slots")
        raise BrokerUnavailable(f"no server of the cluster answers: {'; '.join(reasons)}")

    def _take(self, asked: Address, answer: Any) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for (first, last), found in ranges(answer).items():
            # A server that does not know its own address is the one that was asked (redis.io: CLUSTER SLOTS).
            address = (found[0] or asked[0], found[1])
            owners[first : last + 1] = [address] * (last - first + 1)
        self._owners = owners
        before, self.masters = set(self.masters), tuple(dict.fromkeys(each for each in owners if each is not None))
        if before != set(self.masters):
            self._log.info("redis cluster", masters=[f"{host}:{port}" for host, port in sorted(self.masters)])

    async def _close_unknown(self) -> None:
        for address in [each for each in self._clients if each not in self.masters and each not in self._hosts]:
            await closed(self._clients.pop(address).aclose())

    def _make(self, address: Address) -> RedisClient:
        host, port = address
        return RedisClient.from_pool(ConnectionPool(host=host, port=port, **self._options))


def _look_at_error(task: asyncio.Task[None]) -> None:
    """Whoever waited may be gone; that is no "exception was never retrieved"."""
    if not task.cancelled():
        task.exception()


def ranges(answer: Any) -> dict[tuple[int, int], Address]:
    """The answer to CLUSTER SLOTS, in the form of redis-py or as Redis gives it: slots → host ("" = unknown), port."""
    if isinstance(answer, dict):
        found = {(int(low), int(high)): each["primary"][:2] for (low, high), each in answer.items()}
    else:
        found = {(int(each[0]), int(each[1])): each[2][:2] for each in answer}
    return {slots: (_text(host), int(port)) for slots, (host, port) in found.items()}


def _text(host: Any) -> str:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return "" if text == "?" else text
