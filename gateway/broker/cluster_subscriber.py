"""The subscriber connections to a Redis Cluster: one to each master, for sharded channels, and one for all others.

Theory of operation. A sharded channel (`protocol.redis_contract.is_sharded`) is subscribed at the master that has its
slot. Nobody says when a slot gets another master: a connection is lost, a server says that the channel has moved, or it
is found by looking at the map now and then. Then the map is read, and every channel that is elsewhere by now changes
its connection. A channel that was not heard for a while, for whatever reason, is confirmed anew to the listener, which
heals it from its log.

Channels without braces (control messages) travel on the bus between the servers, as with PUBLISH in any cluster. Their
connection goes to the master that their slot would have: who publishes there is told how many workers have heard it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from gateway.broker.link import SubscriberListener
from gateway.broker.resp import SHARDED
from gateway.broker.subscriber import Subscriber
from gateway.config.redis_url import Address
from gateway.errors import BrokerRefused, BrokerUnavailable
from gateway.log import get_logger
from gateway.storage.cluster import Cluster
from protocol.redis_contract import is_sharded

LOOK_S: Final = 30.0
"""Time between two looks at the map while all is well."""
LOOK_AGAIN_S: Final = 0.5
"""The same while something is not where it should be."""
REPORT_S: Final = 0.2
"""Time over which reports of channels that have moved are put together."""


class ClusterSubscriber:
    """As `gateway.broker.Subscriber`, for a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        bus_channel: str,
        connect_timeout_s: float,
        probe_interval_s: float,
        random: Callable[[], float],
    ) -> None:
        """As `Subscriber`. `bus_channel`: the channel without braces that decides where all of these are."""
        self._bus_channel = bus_channel
        self._cluster = cluster
        self._connect_timeout_s = connect_timeout_s
        self._probe_interval_s = probe_interval_s
        self._random = random
        self._wanted: dict[bytes, Address | None] = {}
        """Sharded channels, and where each is subscribed; None = nowhere."""
        self._moved_at: dict[bytes, float] = {}
        """Channels that are not heard because they are on their way to another server: since when."""
        self._late: dict[bytes, float] = {}
        """Channels that were subscribed elsewhere lately, which must still be told."""
        self._bus = Subscriber(
            _BusEndpoint(cluster, bus_channel),
            connect_timeout_s=connect_timeout_s,
            probe_interval_s=probe_interval_s,
            random=random,
        )
        self._bus_at: Address | None = None
        self._shards: dict[Address, _Shard] = {}
        self._look = asyncio.Event()
        self._complete = False
        self._said = False
        self._listener: SubscriberListener | None = None
        self._group: asyncio.TaskGroup | None = None
        self._log = get_logger(redis=str(cluster))

    @property
    def connected(self) -> bool:
        """Whether every server is connected and every channel subscribed, or about to be."""
        return self._complete

    @property
    def wanted(self) -> int:
        """Number of channels that are wanted."""
        return len(self._wanted) + self._bus.wanted

    def subscribe(self, channel: bytes) -> bool:
        """As `Subscriber.subscribe`: False = the server of the channel is away."""
        if not is_sharded(channel):
            return self._bus.subscribe(channel)
        where = self._wanted.get(channel) or self._cluster.owner(channel)
        shard = self._shards.get(where) if where is not None else None
        self._wanted[channel] = shard.address if shard is not None else None
        if shard is None:
            self._look.set()
            return False
        return shard.subscriber.subscribe(channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Do not want `channel` any more. No answer."""
        if not is_sharded(channel):
            self._bus.unsubscribe(channel)
            return
        self._moved_at.pop(channel, None)
        address = self._wanted.pop(channel, None)
        if address is not None and address in self._shards:
            self._shards[address].subscriber.unsubscribe(channel)

    async def run(self, listener: SubscriberListener) -> None:
        """Stay connected until cancelled, and tell `listener` what comes."""
        self._listener = listener
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._bus.run(_BusListener(self, listener)))
            while True:
                self._look.clear()
                well = await self._follow_map()
                try:
                    async with asyncio.timeout(LOOK_S if well else LOOK_AGAIN_S):
                        await self._look.wait()
                except TimeoutError:
                    continue

    async def _follow_map(self) -> bool:
        """Read the map and have every channel where it belongs. False = something is still missing."""
        try:
            await self._cluster.refresh()
        except BrokerUnavailable as error:
            if not self._said:
                self._said = True
                self._log.warning("redis cluster not found", reason=str(error))
            return False
        self._said = False
        masters = set(self._cluster.masters)
        for address in masters - self._shards.keys():
            self._open(address)
        for channel, before in list(self._wanted.items()):
            owner = self._cluster.owner(channel)
            if owner is not None and owner != before:
                self._change(channel, before, owner)
        for address in self._shards.keys() - masters:
            self._shards.pop(address).task.cancel()
        bus_at = self._cluster.owner(self._bus_channel)
        if bus_at != self._bus_at:
            if self._bus_at is not None:
                self._bus.reconnect()
            self._bus_at = bus_at
        self.judge("the cluster has changed")
        return self._complete and not self._moved_at

    def _open(self, address: Address) -> None:
        if self._group is None or self._listener is None:
            raise RuntimeError("not running")
        shard = _Shard(self, address)
        shard.subscriber = Subscriber(
            self._cluster.endpoint(address),
            connect_timeout_s=self._connect_timeout_s,
            probe_interval_s=self._probe_interval_s,
            random=self._random,
            dialect=SHARDED,
            moved=shard.moved,
        )
        self._shards[address] = shard
        shard.message_received = self._listener.message_received
        shard.task = self._group.create_task(shard.subscriber.run(shard))

    def _change(self, channel: bytes, before: Address | None, now: Address) -> None:
        """Subscribe a channel elsewhere. Whoever listens may have missed something since the slot moved."""
        loop = asyncio.get_running_loop()
        shard = self._shards.get(before) if before is not None else None
        if shard is not None:
            shard.subscriber.unsubscribe(channel)
            self._moved_at.setdefault(channel, shard.lost_at if shard.lost_at is not None else loop.time())
        self._wanted[channel] = now
        self._shards[now].subscriber.subscribe(channel)

    # What shards say.

    def moved(self, channel: bytes, address: Address) -> None:
        """A server does not have a channel any more."""
        if self._wanted.get(channel) == address:
            self._wanted[channel] = None
            self._moved_at.setdefault(channel, asyncio.get_running_loop().time())
            self._look.set()

    def heard_again(self, channels: Collection[bytes], deaf_s: float | None) -> None:
        """Channels are subscribed (again); `deaf_s` = for how long their server was not connected."""
        if self._listener is None:
            return
        for channel in channels:
            moved_at = self._moved_at.pop(channel, None)
            if moved_at is not None and deaf_s is None:
                if not self._late:
                    asyncio.get_running_loop().call_later(REPORT_S, self._report)
                self._late[channel] = moved_at
        if deaf_s is not None:
            self._listener.publications_missed(channels, deaf_s)
        for channel in channels:
            self._listener.subscription_confirmed(channel, None)

    def _report(self) -> None:
        """Say at once of all channels that have moved lately that they were not heard for a while."""
        late, self._late = self._late, {}
        if self._listener is not None:
            self._listener.publications_missed(late, asyncio.get_running_loop().time() - min(late.values()))

    def judge(self, reason: str) -> None:
        """Tell the listener when everything is connected, and when it is not any more."""
        missing = not self._bus.connected or any(not shard.subscriber.connected for shard in self._shards.values())
        complete = not missing and bool(self._shards)
        if complete == self._complete or self._listener is None:
            return
        self._complete = complete
        if complete:
            self._listener.subscriber_connected()
        else:
            self._listener.subscriber_lost(reason)

    def look(self) -> None:
        """Something is not as it was: look at the map."""
        self._look.set()

    def confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        """A server took, or refused, a channel."""
        if error is None:
            self.heard_again((channel,), None)
            return
        self._wanted.pop(channel, None)
        self._moved_at.pop(channel, None)
        if self._listener is not None:
            self._listener.subscription_confirmed(channel, error)


class _Shard:
    """One master. Listens to its subscriber connection (`gateway.broker.SubscriberListener`)."""

    subscriber: Subscriber
    task: asyncio.Task[None]
    message_received: Callable[[bytes, bytes], None]
    """The listener's own, without a detour: on the path of every message."""

    def __init__(self, owner: ClusterSubscriber, address: Address) -> None:
        self.address = address
        self.lost_at: float | None = None
        self._owner = owner
        self._deaf_s: float | None = None

    def moved(self, channel: bytes) -> None:
        self._owner.moved(channel, self.address)

    def subscriber_connected(self) -> None:
        self.lost_at = None
        deaf_s, self._deaf_s = self._deaf_s, None
        self._owner.heard_again(self.subscriber.channels, deaf_s)
        self._owner.judge("")

    def subscriber_lost(self, reason: str) -> None:
        self.lost_at = asyncio.get_running_loop().time()
        self._owner.judge(reason)
        self._owner.look()

    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None:  # noqa: ARG002
        self._deaf_s = deaf_s  # and connected comes at once

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        self._owner.confirmed(channel, error)


class _BusListener:
    """Listens to the connection for what is not sharded."""

    def __init__(self, owner: ClusterSubscriber, listener: SubscriberListener) -> None:
        self._owner = owner
        self.message_received = listener.message_received
        self.publications_missed = listener.publications_missed
        self.subscription_confirmed = listener.subscription_confirmed

    def subscriber_connected(self) -> None:
        self._owner.judge("")

    def subscriber_lost(self, reason: str) -> None:
        self._owner.judge(reason)
        self._owner.look()


class _BusEndpoint:
    """The master whose slot a channel without braces would have (`gateway.storage.endpoint.Server`)."""

    must_be_master = False
    """It is connected to anew when the map says so."""

    def __init__(self, cluster: Cluster, channel: str) -> None:
        self._cluster = cluster
        self._channel = channel
        server = cluster.endpoint(("", 0))
        self.username, self.password, self.db = server.username, server.password, server.db

    def __str__(self) -> str:
        return str(self._cluster)

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Raises OSError, BrokerUnavailable."""
        await self._cluster.refresh()
        address = self._cluster.owner(self._channel)
        if address is None:
            raise BrokerUnavailable(f"no master has the slot of {self._channel}")
        await self._cluster.endpoint(address).open(factory)
