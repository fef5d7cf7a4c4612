"""The ways to Redis of one process, whatever `redis.url` leads to: one server, a master behind Sentinels, a cluster."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from redis.asyncio import Redis as RedisClient

from gateway.broker.cluster_queue import ClusterQueue
from gateway.broker.cluster_subscriber import ClusterSubscriber
from gateway.broker.commands import BATCH, CommandQueue
from gateway.broker.link import SubscriberListener
from gateway.broker.subscriber import Subscriber
from gateway.storage.lost import closed
from gateway.storage.redis import cluster_of, connect, endpoint_of
from protocol.redis_contract import control_channel

if TYPE_CHECKING:
    from gateway.config import Redis


class Subscribes(Protocol):
    """What `Subscriber` and `ClusterSubscriber` have in common."""

    @property
    def connected(self) -> bool: ...
    @property
    def wanted(self) -> int: ...
    def subscribe(self, channel: bytes) -> bool: ...
    def unsubscribe(self, channel: bytes) -> None: ...
    async def run(self, listener: SubscriberListener) -> None: ...


class Connection:
    """Makes queues and a subscriber, and closes what they share. Opens nothing by itself."""

    def __init__(self, settings: Redis, client: RedisClient | None = None) -> None:
        """`client`: the caller's own, which stays open; `settings.url` is not used then."""
        self._settings = settings
        self._own = client is None
        self._cluster = cluster_of(settings) if client is None and settings.topology == "cluster" else None
        self._client = client if client is not None or self._cluster is not None else connect(settings)

    def queue(self, *, batch: int = BATCH, round_trip: Callable[[float], None] | None = None) -> CommandQueue:
        """Of commands. As `CommandQueue`."""
        if self._cluster is not None:
            return ClusterQueue(self._cluster, batch=batch, round_trip=round_trip)
        return CommandQueue(self._client, batch=batch, round_trip=round_trip)

    def subscriber(
        self,
        *,
        connect_timeout_s: float | None = None,
        probe_interval_s: float | None = None,
        random: Callable[[], float] = random.random,
    ) -> Subscribes:
        """As `Subscriber`. Times are those of the settings unless they are given."""
        connect_s = self._settings.connect_timeout_s if connect_timeout_s is None else connect_timeout_s
        probe_s = self._settings.probe_interval_s if probe_interval_s is None else probe_interval_s
        if self._cluster is not None:
            return ClusterSubscriber(
                self._cluster,
                bus_channel=control_channel(self._settings.prefix).decode(),
                connect_timeout_s=connect_s,
                probe_interval_s=probe_s,
                random=random,
            )
        if self._client is None:
            raise RuntimeError("neither a client nor a cluster")
        return Subscriber(
            endpoint_of(self._client.connection_pool),
            connect_timeout_s=connect_s,
            probe_interval_s=probe_s,
            random=random,
        )

    async def aclose(self) -> None:
        """Close every connection for commands."""
        if self._cluster is not None:
            await self._cluster.aclose()
        elif self._own and self._client is not None:
            await closed(self._client.aclose())
