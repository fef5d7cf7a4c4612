"""Who of this worker's clients is in which channel, told to Redis and kept alive there.

Theory of operation. A channel with presence has a roll: its clients on this worker. `entered` and `left` change the
roll at once and note what Redis has to learn; `run` writes it, many clients in one command, and writes it again until
Redis has it. Each entry in Redis is a lease. `run` renews every roll three times a lease, in slots that spread the
commands over the interval. The renewal of one worker also ends the leases that ran out, which is how the clients of a
dead worker leave; and it learns which of its own entries Redis has lost, and restores them without a second `join`.

A channel has two rolls when some of its clients join and leave without a word (a token can say so).
A channel with `join_leave` alone has no roll: events are published once, and nothing is kept.

The rule that is easiest to break: what has to be written is taken from the roll when it is sent, and put back only for
clients whose state is still the same when it fails. So the latest state wins, whatever was lost on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.clock import Clock
from gateway.errors import BrokerBusy, BrokerError, BrokerRefused
from gateway.hub.changes import ChangeFanout
from gateway.hub.channel import Channel
from gateway.hub.roll import BATCH, Observed, Roll
from gateway.log import get_logger
from gateway.tasks import all_done
from protocol.redis_contract import PresenceChange
from protocol.replies import ClientInfo

if TYPE_CHECKING:
    from gateway.broker import PresenceStore

COMMANDS: Final = 32
"""Commands that wait for Redis at once: presence must not keep publications waiting."""
RENEWALS: Final = 3
"""Times that an entry is renewed in one lease."""
SLOTS: Final = 20
"""Parts of a renewal interval over which the channels are spread."""
FLUSH_S: Final = 1.0
"""Time that a worker that stops gives Redis to learn who has left."""
RETRY_S: Final = 1.0
"""Time until what Redis did not take is written again."""
REPORT_S: Final = 60.0
"""Time between two log lines about failures."""
LEAVES_KEPT: Final = 10_000
"""Leaves that wait for a Redis that is away; above it they are given up, and their entries end with their leases."""


class _Write(NamedTuple):
    """One command under way: what to do when it has failed, and the answer."""

    put_back: Callable[[], None]
    done: asyncio.Future[None]


class Presence:
    """The presence of this worker's clients. Everything but `run` and `flushed` is synchronous and never raises."""

    def __init__(
        self, store: PresenceStore, stored: PresenceStore, changes: ChangeFanout, clock: Clock, *, lease_s: float
    ) -> None:
        """`stored` is the same on a queue for large answers."""
        self._store = store
        self.stored = stored
        """For reading: who is in a channel, on every worker."""
        self._changes = changes
        self._clock = clock
        self._interval_s = lease_s / RENEWALS
        self._rolls: dict[tuple[str, bool], Roll] = {}
        self._slots: tuple[dict[Roll, None], ...] = tuple({} for _ in range(SLOTS))
        self._next_slot = 0
        self._unwritten: dict[Roll, None] = {}
        self._leaves = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_report = -REPORT_S
        self._log = get_logger()

    # What sessions say.

    def entered(self, channel: Channel, client: str, info: ClientInfo, rules: Observed | None = None) -> None:
        """`client` has joined `channel`. `rules`: None = those of the channel's namespace."""
        rules = rules or channel.namespace
        if not (rules.presence or rules.join_leave) or is_unobserved(channel.name):
            return
        if not rules.presence:
            self._tell(channel.name, PresenceChange(joined=True, info=info))
            return
        key = (channel.name, rules.join_leave)
        roll = self._rolls.get(key)
        if roll is None:
            roll = self._rolls[key] = Roll(channel.name, self._next_slot, tell=rules.join_leave)
            self._slots[roll.slot][roll] = None
            self._next_slot = (self._next_slot + 1) % SLOTS
        roll.entries[client] = info
        roll.joining[client] = None
        self._forget_leave(roll, client)
        self._has_news(roll)

    def updated(self, channel: Channel, client: str, info: ClientInfo) -> None:
        """There is other information about `client`, which is in `channel` already."""
        for roll in self._rolls_of(channel.name):
            if roll.entries.get(client, info) != info:
                roll.entries[client] = info
                if client not in roll.joining:
                    roll.changed[client] = None
                self._has_news(roll)

    def left(self, channel: Channel, client: str, info: ClientInfo, rules: Observed | None = None) -> None:
        """`client` has left `channel`, or is gone. `rules`: as when it entered."""
        rules = rules or channel.namespace
        if not (rules.presence or rules.join_leave) or is_unobserved(channel.name):
            return
        if not rules.presence:
            self._tell(channel.name, PresenceChange(joined=False, info=info))
            return
        roll = self._rolls.get((channel.name, rules.join_leave))
        known = roll.entries.pop(client, None) if roll is not None else None
        if roll is None or known is None:
            return
        unheard = client in roll.joining
        roll.joining.pop(client, None)
        roll.changed.pop(client, None)
        self._note_leave(roll, client, None if unheard else known)
        self._has_news(roll)

    # What Redis says.

    def deliver_change(self, channel: Channel, change: PresenceChange) -> None:
        """Tell every subscriber of `channel` here who has joined or left: nobody publishes that unless it is wanted."""
        self._changes.enqueue(channel, change)

    def told(self, channel: str) -> asyncio.Future[None] | None:
        """What to wait for before reading `channel`, so that one sees what this worker has done; None = nothing.

        The future never fails; when Redis is away it is done nevertheless.
        """
        waiting: list[asyncio.Future[None]] = []
        for roll in self._rolls_of(channel):
            if not roll.written or roll.sending:
                waiting.append(asyncio.get_running_loop().create_future())
                roll.waiting.append(waiting[-1])
        return all_done(waiting) if waiting else None

    # Writing.

    async def run(self) -> None:
        """Write and renew until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._renew())

    async def flushed(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until Redis knows everything, for at most `timeout_s`. False = it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _rolls_of(self, channel: str) -> list[Roll]:
        return [roll for tell in (False, True) if (roll := self._rolls.get((channel, tell))) is not None]

    def _tell(self, channel: str, change: PresenceChange) -> None:
        try:
            self._store.tell(channel, change)
        except BrokerBusy as error:
            self._failed(error)

    def _has_news(self, roll: Roll) -> None:
        self._unwritten[roll] = None
        self._idle.clear()
        self._wake.set()

    def _note_leave(self, roll: Roll, client: str, info: ClientInfo | None) -> None:
        if self._leaves < LEAVES_KEPT:
            roll.leaving[client] = info
            self._leaves += 1

    def _forget_leave(self, roll: Roll, client: str) -> None:
        if client in roll.leaving:
            del roll.leaving[client]
            self._leaves -= 1

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unwritten:
                if not await self._write_some():
                    await asyncio.sleep(RETRY_S)
            self._idle.set()

    async def _write_some(self) -> bool:
        """Send a few commands and wait for them. False = something has to be sent again."""
        writes: list[_Write] = []
        fine = True
        rolls = list(islice(self._unwritten, COMMANDS))
        for roll in rolls:
            del self._unwritten[roll]
            try:
                while not roll.written and len(writes) < COMMANDS:
                    writes.append(self._send(roll))
                    roll.sending = True
            except BrokerBusy as error:
                self._failed(error)
                fine = False
            if not roll.written:
                self._unwritten[roll] = None
            if not fine or len(writes) >= COMMANDS:
                break
        await _all(write.done for write in writes)
        for write in writes:
            failure = write.done.exception()
            if isinstance(failure, BrokerError):
                # What Redis refuses it will refuse again; the next renewal finds that entries are missing.
                self._failed(failure)
                if not isinstance(failure, BrokerRefused):
                    write.put_back()
                    fine = False
            elif failure is not None:
                raise failure
        for roll in rolls:
            roll.sending = False
            if roll.written or not fine:
                roll.release()
            self._forget_if_deserted(roll)
        return fine

    def _send(self, roll: Roll) -> _Write:
        """Send the next command for a roll that is not written. Raises BrokerBusy, and nothing has changed then."""
        store, tell = self._store, roll.tell
        if roll.leaving:
            leaves = dict(islice(roll.leaving.items(), BATCH))
            done = store.leave(roll.name, leaves, tell=tell)
            for client in leaves:
                self._forget_leave(roll, client)
            return _Write(partial(self._put_back_leaves, roll, leaves), done)
        waiting = roll.joining or roll.changed
        some = roll.some(waiting)
        write = store.enter if waiting is roll.joining else store.restore
        done = write(roll.name, some, tell=tell)
        for client in some:
            del waiting[client]
        return _Write(partial(self._put_back, roll, waiting, tuple(some)), done)

    def _put_back(self, roll: Roll, waiting: dict[str, None], clients: Iterable[str]) -> None:
        back = [client for client in clients if client in roll.entries]
        waiting.update(dict.fromkeys(back))
        if back:
            self._has_news(roll)

    def _put_back_leaves(self, roll: Roll, leaves: Mapping[str, ClientInfo | None]) -> None:
        for client, info in leaves.items():
            if client not in roll.entries:
                self._note_leave(roll, client, info)
                self._has_news(roll)

    def _forget_if_deserted(self, roll: Roll) -> None:
        """Not before Redis knows: a client that comes back must find what is still to be said about it."""
        if roll.written and not roll.entries and self._rolls.get(roll.key) is roll:
            del self._rolls[roll.key], self._slots[roll.slot][roll]

    # Renewing.

    async def _renew(self) -> None:
        due = self._clock.monotonic()
        while True:
            for slot in self._slots:
                now = self._clock.monotonic()
                due = max(due + self._interval_s / SLOTS, now)
                await asyncio.sleep(due - now)
                await self._renew_rolls(list(slot))

    async def _renew_rolls(self, rolls: list[Roll]) -> None:
        batches = ((roll, clients) for roll in rolls for clients in roll.batches())
        while some := list(islice(batches, COMMANDS)):
            try:
                sent = [(roll, self._store.renew(roll.name, clients, tell=roll.tell)) for roll, clients in some]
            except BrokerBusy as error:
                self._failed(error)
                return
            await _all(done for _, done in sent)
            for roll, done in sent:
                failure = done.exception()
                if failure is None:
                    self._restore(roll, done.result())
                elif isinstance(failure, BrokerError):
                    self._failed(failure)
                    if not isinstance(failure, BrokerRefused):
                        return
                else:
                    raise failure

    def _restore(self, roll: Roll, missing: Iterable[str]) -> None:
        lost = [client for client in missing if client in roll.entries and client not in roll.joining]
        roll.changed.update(dict.fromkeys(lost))
        if lost:
            self._has_news(roll)

    def _failed(self, error: BrokerError) -> None:
        now = self._clock.monotonic()
        if now - self._last_report >= REPORT_S:
            self._last_report = now
            self._log.warning("presence not written", error=str(error))


def is_unobserved(channel: str) -> bool:
    """Whether a channel has no presence whatever its namespace says: `@all`, where everyone would hear of everyone."""
    return channel.startswith("@")


async def _all(futures: Iterable[asyncio.Future[Any]]) -> None:
    waiting = tuple(futures)
    if waiting:
        await asyncio.wait(waiting)
