"""Events of this worker's clients on their way into the stream: in order, many at a time, each at least once.

Theory of operation. Sessions put events into a buffer, synchronously. `run` writes them, one batch under way at a time,
and repeats a batch whose answer was lost; the script leaves out what is there already. It also renews the worker's
lease, and reaps workers whose leases have run out. A worker that lost its own lease (it was frozen, or cut off from
Redis) has been reaped: what waits is void, and it tells anew, under another name, of everybody who is there.

The rule that is easiest to break: `disconnected` stands for all subscriptions of the client, which are not told one by
one.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.broker import LifecycleEvent, LifecycleStore
from gateway.clock import Clock
from gateway.errors import BrokerError
from gateway.log import get_logger
from gateway.metrics import names

if TYPE_CHECKING:
    from gateway.broker.lifecycle import Kind

WAITING: Final = 100_000
"""Events that wait for Redis; past it those of subscriptions are dropped, past twice that all."""
BATCH: Final = 200
"""Events in one run of the script."""
RENEWALS: Final = 3
"""Renewals in the time of a lease."""
RETRY_S: Final = 0.5
"""Time until the next attempt after Redis failed."""
REPORT_S: Final = 60.0
"""Time between two lines about failures."""
FINISH_S: Final = 3.0
"""Time that a worker's last events have."""


class Member(NamedTuple):
    """A client that is connected."""

    client: str
    user: str
    channels: Iterable[str]


class Lifecycle:
    """What happens to this worker's clients. The methods for sessions return at once and never raise."""

    def __init__(self, store: LifecycleStore, counters: memoryview[int], clock: Clock, *, lease_s: float) -> None:
        self._store = store
        self._counters = counters
        self._clock = clock
        self._interval_s = lease_s / RENEWALS
        self._worker = ""
        self._number = 0
        self._waiting: deque[LifecycleEvent] = deque()
        self._dead: deque[str] = deque()
        self._renew_at = 0.0
        self._ending = False
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._last_report = -REPORT_S
        self._log = get_logger()

    @property
    def worker(self) -> str:
        """Name under which the worker has its lease; "" = it has none yet."""
        return self._worker

    def connected(self, client: str, user: str) -> None:
        self._put("connected", client, user)

    def disconnected(self, client: str, user: str, reason: str) -> None:
        self._put("disconnected", client, user, reason=reason)

    def subscribed(self, client: str, user: str, channel: str) -> None:
        self._put("subscribed", client, user, channel=channel)

    def unsubscribed(self, client: str, user: str, channel: str) -> None:
        self._put("unsubscribed", client, user, channel=channel)

    async def run(self, everybody: Callable[[], Iterable[Member]]) -> None:
        """Write until `finish` or cancelled. `everybody`: who is connected at the moment."""
        while not self._ended.is_set():
            try:
                await self._step(everybody)
            except BrokerError as error:
                self._report(error)
                await asyncio.sleep(RETRY_S)

    async def finish(self) -> bool:
        """The worker ends: write what waits and give up its lease. False = Redis did not answer in time; then other
        workers will reap it."""
        self._ending = True
        self._wake.set()
        try:
            async with asyncio.timeout(FINISH_S):
                await self._ended.wait()
        except TimeoutError:
            self._log.warning("events not written: other workers will tell", waiting=len(self._waiting))
            return False
        return True

    async def _step(self, everybody: Callable[[], Iterable[Member]]) -> None:
        """The one thing that is due first."""
        now = self._clock.monotonic()
        if not self._worker:
            await self._begin()
        elif now >= self._renew_at:
            renewed = await self._store.renew(self._worker)
            self._renew_at = now + self._interval_s
            self._dead = deque(renewed.dead)
            if not renewed.has_lease:
                self._begin_anew(everybody)
        elif self._waiting:
            batch = list(islice(self._waiting, BATCH))
            if not await self._store.append(self._worker, batch):
                self._begin_anew(everybody)
                return
            for _ in batch:
                self._waiting.popleft()
            self._counters[names.EVENTS] += len(batch)
        elif self._dead and not self._ending:
            await self._reap(self._dead[0])
        elif self._ending:
            while not (await self._store.end(self._worker, self._now_ms())).done:
                pass
            self._ended.set()
        else:
            await self._idle(self._renew_at - now)

    async def _begin(self) -> None:
        name = os.urandom(8).hex()
        await self._store.begin(name)
        self._worker = name
        self._renew_at = self._clock.monotonic() + self._interval_s

    def _begin_anew(self, everybody: Callable[[], Iterable[Member]]) -> None:
        """Others have told that all our clients are gone. Those that are not are told of again."""
        self._log.warning("lease lost: telling of all clients again", worker=self._worker)
        self._worker = ""
        self._number = 0
        self._waiting.clear()
        for member in everybody():
            self.connected(member.client, member.user)
            for channel in member.channels:
                self.subscribed(member.client, member.user, channel)

    async def _reap(self, worker: str) -> None:
        reaped = await self._store.reap(worker, self._now_ms())
        self._counters[names.EVENTS_REAPED] += reaped.clients
        if reaped.clients:
            self._log.warning("clients of a dead worker are gone", worker=worker, clients=reaped.clients)
        if reaped.done:
            self._dead.popleft()

    async def _idle(self, timeout_s: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            pass  # the lease is due

    def _put(self, kind: Kind, client: str, user: str, *, channel: str = "", reason: str = "") -> None:
        if len(self._waiting) >= (WAITING if channel else 2 * WAITING):
            self._counters[names.EVENTS_DROPPED] += 1
            return
        self._number += 1
        self._waiting.append(LifecycleEvent(self._number, kind, client, user, self._now_ms(), channel, reason))
        self._wake.set()

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    def _report(self, error: BrokerError) -> None:
        now = self._clock.monotonic()
        if now - self._last_report >= REPORT_S:
            self._last_report = now
            self._log.warning("events wait for Redis", error=str(error), waiting=len(self._waiting))
