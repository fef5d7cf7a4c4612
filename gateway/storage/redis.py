"""Connections to Redis: a client for commands, and the raw endpoint for the subscriber connection.

redis-py parses the URL and speaks for all commands. It does not retry here: a `PUBLISH` whose answer was lost may have
been executed, and a second one would deliver the message twice. Behind Sentinels both ask, whenever they connect, who
the master is (`sentinel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio import Redis as RedisClient
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from gateway.config.redis_url import parse_redis_url
from gateway.storage.cluster import Cluster
from gateway.storage.endpoint import Endpoint, Server
from gateway.storage.sentinel import SentinelEndpoint, SentinelPool, Sentinels

if TYPE_CHECKING:
    from gateway.config import Redis

COMMAND_TIMEOUT_S = 3.0
"""Time that Redis has to answer a command."""


def endpoint(settings: Redis) -> Server:
    """The server that `settings.url` names. The embedded server has its URL filled in before this is called."""
    return endpoint_of(_pool(settings))


def endpoint_of(pool: ConnectionPool) -> Server:
    """The server of a pool of redis-py."""
    found = _login(pool.connection_kwargs, tls=issubclass(pool.connection_class, SSLConnection))
    return SentinelEndpoint(Sentinels.of(pool), found) if isinstance(pool, SentinelConnectionPool) else found


def _login(options: Mapping[str, Any], *, tls: bool) -> Endpoint:
    return Endpoint(
        host=options.get("host", "localhost"),
        port=int(options.get("port", 6379)),
        path=options.get("path", ""),
        username=options.get("username") or "",
        password=options.get("password") or "",
        db=int(options.get("db") or 0),
        tls=tls,
        tls_options={key: value for key, value in options.items() if key.startswith("ssl_")},
    )


def cluster_of(settings: Redis) -> Cluster:
    """The cluster that `settings.url` names. Opens nothing before it is used."""
    url = parse_redis_url(settings.url)
    pool = ConnectionPool.from_url(url.server, **_options(settings))
    options: dict[str, Any] = pool.connection_kwargs | {"connection_class": pool.connection_class}
    return Cluster(url.hosts, _login(options, tls=issubclass(pool.connection_class, SSLConnection)), options)


def connect(settings: Redis) -> RedisClient:
    """A pooled client for commands, to one server. Opens nothing until the first command; the caller closes it."""
    return RedisClient.from_pool(_pool(settings))


def _pool(settings: Redis) -> ConnectionPool:
    if settings.topology == "sentinel":
        return sentinel_pool(settings)
    return ConnectionPool.from_url(parse_redis_url(settings.url).server, **_options(settings))


def sentinel_pool(settings: Redis) -> SentinelPool:
    """Connections to the master that the Sentinels in `settings.url` name. Opens nothing."""
    url = parse_redis_url(settings.url)
    options = {**parse_url(url.server), **_options(settings)}
    return SentinelPool(Sentinels.from_url(url, settings.connect_timeout_s), options)


def _options(settings: Redis) -> dict[str, Any]:
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "health_check_interval": 0,
    }
