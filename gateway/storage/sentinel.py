"""The master that Redis Sentinels name: asked for anew at each connect, by commands and by the subscriber connection.

Sentinels may be wrong for a while after a fail-over. So the subscriber connection also asks the server itself whether
it is the master; commands find out by being refused (READONLY), upon which redis-py connects anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import msgspec
from redis.asyncio import SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.config.redis_url import Address, RedisUrl
from gateway.errors import BrokerUnavailable
from gateway.storage.endpoint import Endpoint
from gateway.storage.lost import closed, lost_is_said
from gateway.tasks import cancellations, raise_if_cancelled

ANSWER_S: Final = 1.0
"""Time that one Sentinel has to answer, at most: then the next is asked."""


class Sentinels(msgspec.Struct, frozen=True):
    """Where the Sentinels are, and what they call the master."""

    hosts: tuple[Address, ...]
    service: str
    options: dict[str, Any]
    """For redis-py's connections to them."""

    def __str__(self) -> str:
        """For logs: never with credentials."""
        return f"{self.service} of the sentinels {','.join(f'{host}:{port}' for host, port in self.hosts)}"

    def __repr__(self) -> str:
        return f"Sentinels({self})"

    @classmethod
    def from_url(cls, url: RedisUrl, connect_timeout_s: float) -> Self:
        """`connect_timeout_s`: all of them together, and then the master, should be asked within it."""
        patience_s = min(ANSWER_S, connect_timeout_s / (len(url.hosts) + 1))
        options: dict[str, Any] = {"socket_timeout": patience_s, "socket_connect_timeout": patience_s}
        server: dict[str, Any] = dict(parse_url(url.server))
        if issubclass(server.get("connection_class", object), SSLConnection):
            options |= {"ssl": True} | {name: value for name, value in server.items() if name.startswith("ssl_")}
        if url.sentinel_username:
            options["username"] = url.sentinel_username
        if url.sentinel_password:
            options["password"] = url.sentinel_password
        return cls(url.hosts, url.service, options)

    @classmethod
    def of(cls, pool: SentinelConnectionPool) -> Self:
        """Those that a pool of redis-py asks."""
        sentinel = pool.sentinel_manager
        asked = [each.connection_pool.connection_kwargs for each in sentinel.sentinels]
        hosts = tuple((each.get("host", "localhost"), int(each.get("port", 26379))) for each in asked)
        return cls(hosts, pool.service_name, dict(sentinel.sentinel_kwargs))

    def client(self) -> Sentinel:
        """redis-py's client of them. The caller closes it with `aclose`."""
        return Sentinel(  # type: ignore[no-untyped-call]
            self.hosts, sentinel_kwargs={**self.options, "retry": Retry(NoBackoff(), 0)}
        )

    async def master(self) -> Address:
        """Raises BrokerUnavailable when none of them knows one."""
        client = self.client()
        cancelled_before = cancellations()
        try:
            with lost_is_said():
                host, port = await client.discover_master(self.service)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"no master known to {self}: {type(error).__name__}") from error
        finally:
            closing = asyncio.ensure_future(closed(client.aclose()))
            while not closing.done():  # cancelled before it began it would close nothing
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((closing,))
            raise_if_cancelled(cancelled_before)
        return host, int(port)


class SentinelEndpoint:
    """The master, for the subscriber connection (`gateway.storage.endpoint.Server`)."""

    must_be_master = True

    def __init__(self, sentinels: Sentinels, server: Endpoint) -> None:
        """`server`: how to log in to the master; its address is not used."""
        self._sentinels = sentinels
        self._server = server
        self.username = server.username
        self.password = server.password
        self.db = server.db

    def __str__(self) -> str:
        return str(self._sentinels)

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Find the master and connect. Raises OSError, BrokerUnavailable."""
        host, port = await self._sentinels.master()
        await msgspec.structs.replace(self._server, host=host, port=port).open(factory)


class SentinelPool(SentinelConnectionPool):
    """redis-py's pool of connections to the master, which takes its connections to the Sentinels along."""

    def __init__(self, sentinels: Sentinels, options: Mapping[str, Any]) -> None:
        """`options`: of connections to the master; a host and a port in there are not used."""
        left: dict[str, Any] = {name: value for name, value in options.items() if name not in ("host", "port")}
        tls = issubclass(left.pop("connection_class", object), SSLConnection)
        connection = SentinelManagedSSLConnection if tls else SentinelManagedConnection
        self._sentinels = sentinels
        super().__init__(  # type: ignore[no-untyped-call]
            sentinels.service, sentinels.client(), connection_class=connection, **left
        )

    async def get_master_address(self) -> Address:
        try:
            host, port = await super().get_master_address()  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            raise MasterNotFoundError(f"no master known to {self._sentinels}") from None
        return host, port

    async def aclose(self) -> None:
        await closed(super().aclose())
        await closed(self.sentinel_manager.aclose())
