"""Relays the Redis Stream of backends that have no database: at least once out of the stream, once to clients.

One node at a time does it, the one that holds the lease; the others look now and then whether it is free. Whoever gets
it first takes over what the one before has read and not finished. An entry leaves the stream after it is published,
under its own key or else its id, so what is published again by the next one is not doubled. An entry that Redis refuses
waits, still in the stream, for its next attempt, and entries of the same channel wait behind it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gateway.broker.backoff import Backoff
from gateway.broker.commands import CommandQueue
from gateway.broker.ingest import Entry, IngestStream
from gateway.clock import Clock
from gateway.config import Outbox
from gateway.errors import BrokerError, BrokerRefused
from gateway.log import get_logger
from gateway.relay.counters import IngestReport
from gateway.relay.publishing import Outcome, RowPublisher
from gateway.relay.relay import AWAY_BASE_S, AWAY_CAP_S, FIGURES_S, FORGET_S, retry_delay_s
from gateway.relay.rows import Row

BATCH: Final = 500
"""Entries in one read."""
MAX_HELD: Final = 10_000
"""Entries that wait behind refused ones; past it nothing new is read."""


class _Held:
    """Entries of one channel that wait for the first of them."""

    __slots__ = ("attempts", "due_s", "entries")

    def __init__(self, attempts: int, due_s: float, entries: Sequence[Entry]) -> None:
        self.attempts = attempts
        self.due_s = due_s
        self.entries = deque(entries)


class _Work(NamedTuple):
    rows: list[Row]
    entries: list[Entry]


class Ingest:
    """Relays one stream. `run` until cancelled."""

    def __init__(
        self,
        stream: IngestStream,
        publisher: RowPublisher,
        queues: Sequence[CommandQueue],
        settings: Outbox,
        report: IngestReport,
        clock: Clock,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`queues`: what `stream` and `publisher` write to; they run with this. `draw`: floats in [0, 1)."""
        self._stream = stream
        self._publisher = publisher
        self._queues = queues
        self._settings = settings
        self._report = report
        self._clock = clock
        self._draw = draw
        self._held: dict[str, _Held] = {}
        self._left: list[Entry] = []
        """Read, and not sent, because Redis was away."""
        self._take_over_from: str | None = "0-0"
        self._renew_at_s = 0.0
        self._log = get_logger()

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.run())
            group.create_task(self._relay_on())
            group.create_task(self._look())

    async def _relay_on(self) -> None:
        backoff = Backoff(AWAY_BASE_S, AWAY_CAP_S, self._draw)
        try:
            while True:
                try:
                    if not await self._lead():
                        await asyncio.sleep(self._settings.lease_s / 4 * (1 + self._draw()))
                        continue
                    away = await self._step()
                except BrokerError as error:
                    away = str(error) or type(error).__name__
                    if isinstance(error, BrokerRefused) and away.startswith("NOGROUP"):
                        self._start_anew()  # Redis has lost its data
                if away:
                    self._in_trouble(away)
                    await asyncio.sleep(backoff.next_delay())
                else:
                    self._out_of_trouble()
                    backoff.reset()
        finally:
            if self._report.active:  # the queues may be gone already: then the lease ends by itself
                self._report.active = False

    async def _lead(self) -> bool:
        now = self._clock.monotonic()
        if self._report.active and now < self._renew_at_s:
            return True
        leads = await self._stream.lead(self._settings.lease_s)
        self._renew_at_s = now + self._settings.lease_s / 3
        if leads and not self._report.active:
            self._start_anew()
            self._log.info("ingest stream is relayed by this node")
        self._report.active = leads
        return leads

    def _start_anew(self) -> None:
        self._held.clear()
        self._left = []
        self._take_over_from = "0-0"

    async def _step(self) -> str:
        """Read some, publish them. Why it could not, or ""."""
        fresh = self._left or await self._next()
        self._left = []
        work = self._sort(fresh)
        outcome = await self._publisher.publish(work.rows)
        await self._judge(work, outcome)
        return outcome.away

    async def _next(self) -> list[Entry]:
        if self._take_over_from is not None:
            if self._take_over_from == "0-0":
                await self._stream.create()
            start, entries = await self._stream.take_over(self._take_over_from, BATCH)
            self._take_over_from = None if start == "0-0" else start
            return entries
        if sum(len(held.entries) for held in self._held.values()) >= MAX_HELD:
            await asyncio.sleep(self._settings.backoff_s)
            return []
        return await self._stream.read(BATCH)

    def _sort(self, fresh: Sequence[Entry]) -> _Work:
        """What can go now: entries of held channels that are due, then new ones that are behind none."""
        work = _Work([], [])
        now = self._clock.monotonic()
        for channel, held in list(self._held.items()):
            if held.due_s <= now:
                for number, entry in enumerate(held.entries):
                    self._add(work, entry, held.attempts if number == 0 else 0)
                del self._held[channel]
        for entry in fresh:
            held_back = self._held.get(_channel(entry))
            if held_back is not None:
                held_back.entries.append(entry)
            else:
                self._add(work, entry, 0)
        return work

    @staticmethod
    def _add(work: _Work, entry: Entry, attempts: int) -> None:
        fields = entry.fields
        try:
            data = fields.get(b"data", b"").decode()
            key = fields[b"key"].decode() if b"key" in fields else entry.id
        except UnicodeDecodeError:
            data = key = ""
        channel = _channel(entry)
        work.rows.append(Row(len(work.entries), key, channel, channel, attempts, data, 0.0))
        work.entries.append(entry)

    async def _judge(self, work: _Work, outcome: Outcome) -> None:
        counted = self._report.counted
        done = {row.id for row in outcome.published}
        keep = self._settings.ingest_dead_max_entries
        last = None
        if outcome.published:
            last = self._stream.remove([work.entries[row.id].id for row in outcome.published])
            counted.published += len(outcome.published)
        dead = list(outcome.invalid)
        for row, error in outcome.refused:
            if row.key in self._held:
                self._held[row.key].entries.append(work.entries[row.id])
            elif row.attempts + 1 < self._settings.attempts:
                due_s = self._clock.monotonic() + retry_delay_s(self._settings, row.attempts, self._draw())
                self._held[row.key] = _Held(row.attempts + 1, due_s, [work.entries[row.id]])
                counted.retried += 1
            else:
                dead.append((row, f"refused {row.attempts + 1} times, at last with: {error}"))
            done.add(row.id)
        for row, error in dead:
            last = self._stream.bury(work.entries[row.id], error[:500], keep)
            counted.dead += 1
            done.add(row.id)
            self._log.warning(
                "ingest entry given up", id=work.entries[row.id].id, channel=row.channel, error=error[:500]
            )
        self._left = [entry for number, entry in enumerate(work.entries) if number not in done]
        if last is not None:
            await last
            self._publisher.forget(outcome.published, FORGET_S)

    async def _look(self) -> None:
        """How much there is; and not more than may be."""
        while True:
            try:
                self._report.waiting, self._report.oldest_s = await self._stream.figures()
                if self._report.active and self._report.waiting > self._settings.ingest_max_entries:
                    dropped = await self._stream.trim(self._settings.ingest_max_entries)
                    self._report.counted.dropped += dropped
                    self._log.error("ingest stream too long, oldest entries dropped", dropped=dropped)
            except BrokerError as error:
                self._log.debug("ingest stream not looked at", error=str(error))
            await asyncio.sleep(FIGURES_S)

    def _in_trouble(self, reason: str) -> None:
        self._report.counted.interrupted += 1
        if not self._report.trouble:
            self._log.warning("ingest stream not relayed", error=reason)
        self._report.trouble = reason

    def _out_of_trouble(self) -> None:
        if self._report.trouble:
            self._log.info("ingest stream relayed again")
        self._report.trouble = ""


def _channel(entry: Entry) -> str:
    """ "" for what cannot be a channel."""
    try:
        return entry.fields.get(b"channel", b"").decode()
    except UnicodeDecodeError:
        return ""
