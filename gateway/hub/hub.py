"""The index of one worker: channel → receivers, user → sessions, Redis message → fan-out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from gateway.clock import Clock
from gateway.config import Namespace
from gateway.errors import BrokerRefused
from gateway.hub import forms
from gateway.hub.catchup import CatchUp
from gateway.hub.channel import Channel, Held, Receiver
from gateway.hub.fanout import Fanout
from gateway.hub.feed import Feed
from gateway.hub.interest import Interest, SubscribesInRedis
from gateway.hub.recent import ReadsLog
from gateway.hub.reports import DropReports
from gateway.log import get_logger
from gateway.metrics import names
from protocol.errors import EnvelopeError
from protocol.redis_contract import PresenceChange, decode_payload, publish_channel
from protocol.replies import Publication

CHECK_S: Final = 25.0
"""Time after which the position of a channel with history is compared with its log."""
CHECKS: Final = 200
"""Positions that are checked at once."""
TAIL_S: Final = 10.0
"""Time that recent publications are kept in memory after nobody has asked for them."""
SWEEP_S: Final = 0.5
"""Time between two looks for what is due."""


class Hub:
    """Channels and their receivers. The listener of the broker's subscriber (`gateway.broker.SubscriberListener`)."""

    def __init__(
        self,
        redis: SubscribesInRedis,
        fanout: Fanout,
        catch_up: CatchUp,
        log: ReadsLog,
        presence_changed: Callable[[Channel, PresenceChange], None],
        counters: memoryview[int],
        clock: Clock,
        *,
        prefix: str,
        namespaces: Mapping[str, Namespace],
        linger_s: float,
        publication_bytes: int,
        redis_state_changed: Callable[[bool], None] | None = None,
    ) -> None:
        """`presence_changed` is told who joins and leaves, `redis_state_changed` when Redis comes (True) and goes."""
        self._presence_changed = presence_changed
        self._fanout = fanout
        self._catch_up = catch_up
        self._reads = log
        self._clock = clock
        self._checks: deque[Feed] = deque()
        self._counters = counters
        self._prefix = prefix
        self._namespaces = namespaces
        self._publication_bytes = publication_bytes
        self._redis_state_changed = redis_state_changed
        self._channels: dict[bytes, Channel] = {}
        self._numbers = 0
        self._handlers: dict[bytes, Callable[[bytes], None]] = {}
        self._missed: list[Callable[[], None]] = []
        self._interest = Interest(redis, clock, linger_s=linger_s, forget=self._forget)
        self._reports = DropReports(clock)
        self._log = get_logger()

    async def run(self) -> None:
        """Tidy up and check positions until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._interest.run())
            while True:
                await asyncio.sleep(SWEEP_S)
                self.check_positions()

    def check_positions(self) -> None:
        """Compare what was not compared for a while with the logs; free what nobody has asked for lately."""
        now = self._clock.monotonic()
        for _ in range(min(CHECKS, len(self._checks))):
            feed = self._checks.popleft()
            if not feed.known:
                feed.checking = False
                continue
            self._checks.append(feed)
            if feed.recent.in_memory and now - feed.recent.used_at > TAIL_S:
                feed.recent.drop()
            if now - feed.checked_at > CHECK_S and not feed.healing:
                feed.heal()

    def handle(
        self, redis_channel: bytes, handler: Callable[[bytes], None], missed: Callable[[], None] | None = None
    ) -> None:
        """Have `handler` called with every payload on a Redis channel that is none of publications; it must not raise.

        `missed` is called when Redis is there (again) and payloads may have been missed. Subscribing is the caller's.
        """
        self._handlers[redis_channel] = handler
        if missed is not None:
            self._missed.append(missed)

    def subscribers(self) -> Iterator[tuple[str, int]]:
        """Every channel that somebody is in here, with the number of subscribers, as it is when it is looked at."""
        for channel in tuple(self._channels.values()):
            if count := len(channel.receivers) + len(channel.behind):
                yield channel.name, count

    def drop_recent(self) -> int:
        """Forget recent publications: who needs them reads the log. How many channels had some in memory."""
        in_memory = [feed.recent for feed in self._checks if feed.recent.in_memory]
        for recent in in_memory:
            recent.drop()
        return len(in_memory)

    # Joining and leaving.

    def open(
        self, names_and_namespaces: Iterable[tuple[str, str]]
    ) -> tuple[list[Channel], asyncio.Future[None] | None]:
        """Get channels ready for somebody to join: pairs of channel name and namespace name.

        Returns the channels, and a future to wait for unless all of them are held in Redis already; it raises
        BrokerRefused. Every channel returned must go to `join` or to `cancel`, exactly once.
        """
        channels: list[Channel] = []
        for name, namespace in names_and_namespaces:
            redis_name = publish_channel(self._prefix, name)
            channel = self._channels.get(redis_name)
            if channel is None:
                self._numbers += 1
                channel = Channel(name, redis_name, self._namespaces[namespace or "default"], self._numbers)
                if channel.namespace.has_history:
                    channel.feed = Feed(channel, self._reads, self, self._clock)
                self._channels[redis_name] = channel
            channel.acquisitions += 1
            channels.append(channel)
        held = self._interest.acquire(channels)
        unknown = [channel for channel in channels if channel.feed is not None and not channel.feed.known]
        return channels, self._positions_known(unknown, held) if unknown else held

    def _positions_known(self, channels: list[Channel], held: asyncio.Future[None] | None) -> asyncio.Future[None]:
        """Done when the channels are held and each has its position, or will not have it for now."""
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = len(channels) + (held is not None)

        def one(_held: asyncio.Future[None] | None = None) -> None:
            nonlocal left
            left -= 1
            if not left and not known.done():
                known.set_result(None)

        if held is not None:
            held.add_done_callback(one)
        for channel in channels:
            if channel.feed is not None:
                channel.feed.when_healed(one)
                if channel.held is Held.YES and not channel.feed.healing:
                    channel.feed.heal()
        return known

    def join(
        self, channel: Channel, receiver: Receiver, after: int | None = None, *, shape: int = forms.DEFAULT
    ) -> None:
        """Deliver to `receiver` from now on; on a channel with history, everything after the offset `after`.

        `shape`: how it wants publications (`gateway.hub.forms`).
        """
        channel.shape(receiver, shape)
        channel.acquisitions -= 1
        if channel.deserted:
            self._counters[names.CHANNELS] += 1
        self._counters[names.SUBSCRIPTIONS] += 1
        if channel.feed is None or after is None or after == channel.feed.passed:
            channel.add(receiver)
        else:
            self._catch_up.begin(channel, receiver, after)

    def cancel(self, channel: Channel) -> None:
        """Nobody comes of this `open`."""
        channel.acquisitions -= 1
        if channel.idle:
            self._released(channel)

    def leave(self, channel: Channel, receiver: Receiver) -> None:
        """Deliver nothing more to `receiver`, also not from a pass that is under way."""
        if not channel.remove(receiver):
            return
        self._catch_up.forget(channel, receiver)
        self._counters[names.SUBSCRIPTIONS] -= 1
        if channel.deserted:
            self._counters[names.CHANNELS] -= 1
            if channel.idle:
                self._released(channel)

    def drained(self, receiver: Receiver) -> None:
        """The socket of `receiver` takes bytes again after its send budget was used up."""
        self._catch_up.drained(receiver)

    def _released(self, channel: Channel) -> None:
        if channel.feed is not None:
            channel.feed.forget()
            self._fanout.discard(channel)
        self._interest.release(channel)

    def _forget(self, channel: Channel) -> None:
        if channel.idle:
            self._channels.pop(channel.redis_name, None)

    @property
    def delivering(self) -> bool:
        """Whether publications are on their way to receivers."""
        return self._fanout.delivering

    def follow(self, channel: str, client: str) -> None:
        """A client of this worker publishes: see how long it takes to the sockets."""
        self._fanout.follow(channel, client)

    # What Redis says.

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """One publication from Redis: decode, queue for fan-out. On the path of every message; never raises."""
        counters = self._counters
        known = self._channels.get(channel)
        if known is None and (handler := self._handlers.get(channel)) is not None:
            handler(payload)
            return
        counters[names.PUBLICATIONS] += 1
        if known is None or (not known.receivers and known.feed is None):
            return
        if len(payload) > self._publication_bytes:
            counters[names.DROPPED_TOO_LARGE] += 1
            self._reports.dropped(known.name, "too large", payload_bytes=len(payload), limit=self._publication_bytes)
            return
        try:
            received = decode_payload(payload)
        except EnvelopeError as error:
            counters[names.DROPPED_INVALID] += 1
            self._reports.dropped(known.name, "undecodable", error=str(error), payload_bytes=len(payload))
            return
        if isinstance(received, PresenceChange):
            self._presence_changed(known, received)
            return
        feed = known.feed
        if feed is None:
            self._fanout.enqueue(known, received.publication, len(payload))
        elif received.position is not None:
            feed.received(received.publication, received.position, len(payload))
        elif known.receivers:
            # A plain PUBLISH beside the log: at most once, and not at the cost of what is in the log.
            if not received.skip_history:
                counters[names.BYPASSED] += 1
                self._reports.bypassed(known.name)
            if self._fanout.has_room(known):
                self._fanout.enqueue(known, received.publication, len(payload))
            else:
                counters[names.DROPPED_QUEUE] += 1

    # What feeds say (gateway.hub.feed.FeedOwner).

    def take(self, channel: Channel, publication: Publication, size: int) -> None:
        self._fanout.enqueue(channel, publication, size)

    def has_room(self, channel: Channel) -> bool:
        return self._fanout.has_room(channel)

    def found(self, feed: Feed) -> None:
        if not feed.checking:
            feed.checking = True
            self._checks.append(feed)

    def healed(self, channel: Channel, publications: int) -> None:
        self._counters[names.HEALED] += 1
        self._counters[names.HEALED_PUBLICATIONS] += publications
        self._log.info("gap healed", channel=channel.name, publications=publications)

    def too_short(self, channel: Channel) -> None:
        self._log.warning("log too short to heal", channel=channel.name, subscribers=len(channel.receivers))
        self._fanout.discard(channel)
        self._catch_up.lose(channel)

    # What Redis says about subscriptions.

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        known = self._channels.get(channel)
        if known is None:
            if error is not None and channel in self._handlers:
                self._log.error("redis refused a channel", channel=channel.decode(), error=str(error))
            return
        if error is not None:
            self._log.error("redis refused a channel", channel=known.name, error=str(error))
        self._interest.confirmed(known, error)
        if error is not None:
            if known.feed is not None:
                known.feed.refused()
            for receiver in (*known.receivers, *known.behind):
                receiver.subscription_lost(known.name)
        elif known.feed is not None:
            known.feed.heal()

    def subscriber_connected(self) -> None:
        self._counters[names.REDIS_CONNECTED] = 1
        for channel in self._channels.values():
            if channel.feed is not None and not channel.idle:
                channel.feed.heal()
        for missed in self._missed:
            missed()
        if self._redis_state_changed is not None:
            self._redis_state_changed(True)

    def subscriber_lost(self, reason: str) -> None:  # noqa: ARG002 - the subscriber has logged it
        self._counters[names.REDIS_CONNECTED] = 0
        self._counters[names.REDIS_LOST] += 1
        self._interest.redis_lost()
        if self._redis_state_changed is not None:
            self._redis_state_changed(False)

    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None:
        """Channels with history heal; what was published on others meanwhile, nobody knows: say so."""
        known = (self._channels.get(channel) for channel in channels)
        concerned = sum(channel is not None and channel.feed is None and not channel.deserted for channel in known)
        if concerned:
            self._counters[names.INTERRUPTED] += concerned
            self._log.warning("publications may be lost", channels=concerned, deaf_s=round(deaf_s, 3))
