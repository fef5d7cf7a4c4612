"""Connections to Redis: a client for commands, and the raw endpoint for the subscriber connection.

redis-py parses the URL and speaks for all commands. It does not retry here: a `PUBLISH` whose answer was lost may have
been executed, and a second one would deliver the message twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio import Redis as RedisClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from gateway.config import Redis

COMMAND_TIMEOUT_S = 3.0
"""Time that Redis has to answer a command."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis server is and how to log in to it, from its URL."""

    host: str = ""
    port: int = 6379
    path: str = ""
    """Unix socket; "" = TCP."""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False
    tls_options: dict[str, Any] = {}

    def __str__(self) -> str:
        """For logs: never with credentials."""
        return f"unix://{self.path}" if self.path else f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Endpoint({self})"

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Connect, with a protocol made by `factory`. Raises OSError (ssl.SSLError is one)."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(factory, self.path)
        else:
            await loop.create_connection(factory, self.host, self.port, ssl=self._tls_context())

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        options = self.tls_options
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if options.get("ssl_certfile"):
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        if options.get("ssl_cert_reqs") in ("none", ssl.CERT_NONE):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def endpoint(settings: Redis) -> Endpoint:
    """The server that `settings.url` names. The embedded server has its URL filled in before this is called."""
    return endpoint_of(_pool(settings))


def endpoint_of(pool: ConnectionPool) -> Endpoint:
    """The server of a pool of redis-py."""
    options = pool.connection_kwargs
    return Endpoint(
        host=options.get("host", "localhost"),
        port=int(options.get("port", 6379)),
        path=options.get("path", ""),
        username=options.get("username") or "",
        password=options.get("password") or "",
        db=int(options.get("db") or 0),
        tls=issubclass(pool.connection_class, SSLConnection),
        tls_options={key: value for key, value in options.items() if key.startswith("ssl_")},
    )


def connect(settings: Redis) -> RedisClient:
    """A pooled client for commands. Opens nothing until the first command; the caller closes it with `aclose`."""
    return RedisClient.from_pool(_pool(settings))


def _pool(settings: Redis) -> ConnectionPool:
    return ConnectionPool.from_url(
        settings.url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=settings.connect_timeout_s,
        socket_timeout=COMMAND_TIMEOUT_S,
        health_check_interval=0,
    )
