"""A pool of connections for commands that may be sent twice: it waits for a free one, tries again, and counts.

For reads and for writes that say what shall be, not what shall change. Keepalive finds a peer that has vanished; how
long a command may take is the caller's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from weakref import WeakSet

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as RedisClient
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.storage.lost import closed
from gateway.storage.redis import COMMAND_TIMEOUT_S, sentinel_pool
from gateway.storage.sentinel import SentinelPool

if TYPE_CHECKING:
    from gateway.config import Redis

RETRIES: Final = 2
"""Times that a command is sent again when its connection broke."""
BACKOFF_S: Final = (0.008, 0.1)
"""Base and cap of the time between two attempts."""
CLOSED: Final = "the pool is closed"


class PoolStatistics(NamedTuple):
    """A pool at one moment; the last three since it was made."""

    size: int
    """Connections at most."""
    in_use: int
    idle: int
    waiting: int
    """Callers that wait for a connection."""
    waits: int
    """Times that one had to."""
    opened: int
    """Connections that were opened the first time."""
    reconnects: int
    """Times that one was opened again after it broke."""


class CountingPool(BlockingConnectionPool):
    """As redis-py's, with statistics. Once it is closed it opens no connection any more."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting = 0
        self._waits = 0
        self._opened = 0
        self._reconnects = 0
        self._known: WeakSet[AbstractConnection] = WeakSet()
        self._closed = False
        self._master: SentinelPool | None = None

    @classmethod
    def behind_sentinels(cls, master: SentinelPool, **options: Any) -> Self:
        """With connections to the master that is named whenever one connects. `master`, which needs no connections of
        its own, is asked, and is closed with this."""
        pool = cls(connection_class=master.connection_class, **(master.connection_kwargs | options))
        pool._master = master  # redis-py's connections refer to it weakly
        return pool

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            size=self.max_connections,
            in_use=len(self._in_use_connections),
            idle=len(self._available_connections),
            waiting=self._waiting,
            waits=self._waits,
            opened=self._opened,
            reconnects=self._reconnects,
        )

    async def get_connection(self, *arguments: Any, **options: Any) -> AbstractConnection:
        """As redis-py's: waits while all are in use. Raises its ConnectionError once the pool is closed."""
        if self._closed:
            raise RedisConnectionError(CLOSED)
        must_wait = not self.can_get_connection()
        self._waits += must_wait
        self._waiting += must_wait
        try:
            connection: AbstractConnection = await super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]
            return connection
        finally:
            self._waiting -= must_wait

    def make_connection(self) -> AbstractConnection:
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        connection.register_connect_callback(self._connected)  # type: ignore[no-untyped-call]
        return connection

    async def aclose(self) -> None:
        """Close every connection, those in use as well."""
        self._closed = True
        await closed(super().aclose())
        if self._master is not None:
            await self._master.aclose()

    async def _connected(self, connection: AbstractConnection) -> None:
        if self._closed:
            # A command that was under way: redis-py would connect for it again, and nobody would close that.
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(CLOSED)
        if connection in self._known:
            self._reconnects += 1
        else:
            self._known.add(connection)
            self._opened += 1


def open_pool(settings: Redis, connections: int) -> tuple[RedisClient, CountingPool]:
    """A client with up to `connections` connections, none yet, to one server or to the master that Sentinels name. The
    caller closes the client with `aclose`."""
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": COMMAND_TIMEOUT_S,
        "retry": Retry(ExponentialBackoff(base=BACKOFF_S[0], cap=BACKOFF_S[1]), RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "health_check_interval": 0,
    }
    if not settings.url.startswith("unix://"):
        options["socket_keepalive"] = True
    if settings.topology == "sentinel":
        pool = CountingPool.behind_sentinels(sentinel_pool(settings), **options)
    else:
        pool = CountingPool.from_url(settings.url, **options)
    return RedisClient.from_pool(pool), pool
