"""A channel with history, as one worker follows it: every publication once, in order, whatever Redis does.

The worker takes a publication live when its offset is the next one. Anything else (a gap, another epoch, a Redis
connection that was lost, a periodic check that disagrees) turns the feed to *healing*: live publications are not kept,
they are in the log anyway; the log is read on from the position, page by page, and only as fast as fan-out passes make
room. So a gap is healed once per worker and channel, before newer publications, with bounded memory. When a page
reaches the top of the log and nothing came past meanwhile, the feed is live again.

Three offsets, never decreasing within an epoch: `passed` ≤ `top` ≤ the log's top. Publications up to `top` are taken;
those up to `passed` have been handed to a pass; between the two they wait in `channel.pending`.

When the log no longer reaches back to the position (trimmed, expired, lost with its Redis), `too_short` is told, and
the feed starts anew at the log's top.

A log can also contradict what was delivered: a replica that lacked the last writes became the master, or Redis came
back with older data. Its offsets are given out again under the same epoch. So healing looks at the newest publication
that was taken, too: when the log ends before it, or has another one there, it gets a new epoch (`forked`), and clients
that come back with the old one are told that they have missed something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.clock import Clock
from gateway.config import STREAM_NAMESPACE
from gateway.errors import BrokerError
from gateway.hub.recent import PAGE, ReadsLog, Recent, data_bytes
from protocol.encodings.json import json_line
from protocol.errors import DecodeError
from protocol.position import Position
from protocol.replies import Publication

if TYPE_CHECKING:
    from gateway.broker import Page
    from gateway.hub.channel import Channel

RETRY_S: Final = (0.1, 2.0)
"""Shortest and longest time before a failed read is repeated."""


class FeedOwner(Protocol):
    """What a feed tells the hub."""

    def take(self, channel: Channel, publication: Publication, size: int) -> None:
        """The next publication: have it delivered."""
        ...

    def has_room(self, channel: Channel) -> bool:
        """Whether more may wait for the channel's next pass."""
        ...

    def found(self, feed: Feed) -> None:
        """The feed has its first position: it wants to be checked from time to time."""
        ...

    def too_short(self, channel: Channel) -> None:
        """Subscribers have missed what the log no longer has. What waits for a pass must go, too."""
        ...

    def healed(self, channel: Channel, publications: int) -> None:
        """The log gave what was missed."""
        ...


class Feed:
    """Position and recent publications of one channel. Everything happens on the loop's thread."""

    __slots__ = (
        "_channel",
        "_clock",
        "_found",
        "_generation",
        "_last",
        "_log",
        "_may_fork",
        "_missed",
        "_owner",
        "_retry_s",
        "_waiting",
        "_wants_room",
        "checked_at",
        "checking",
        "epoch",
        "healing",
        "passed",
        "recent",
        "top",
    )

    def __init__(self, channel: Channel, log: ReadsLog, owner: FeedOwner, clock: Clock) -> None:
        self._channel = channel
        self._log = log
        self._owner = owner
        self._clock = clock
        self.epoch = ""
        """"" = the position is not known yet."""
        self.top = 0
        self.passed = 0
        self.healing = False
        self.checked_at = 0.0
        """When the position was last known to be right, on the monotonic clock."""
        self.checking = False
        """Whether the hub has it in its round of checks."""
        self.recent = Recent(channel.name, self, log, clock)
        """What has been handed to passes, for who recovers or catches up."""
        self._missed = False
        self._may_fork = not channel.name.startswith(f"{STREAM_NAMESPACE}:")
        """Not a token stream: the epoch of its log is its generation, and its producer writes what was lost again."""
        self._last: Publication | None = None
        """The publication at `top`, if this worker has had it."""
        self._found = 0
        self._wants_room = False
        self._waiting: list[Callable[[], None]] = []
        self._generation = 0
        self._retry_s = RETRY_S[0]

    @property
    def known(self) -> bool:
        """Whether the feed has a position: subscribers can join."""
        return self.epoch != ""

    def forget(self) -> None:
        """Nobody is here any more: the position gets stale from now on."""
        self._generation += 1
        self.epoch = ""
        self.top = self.passed = 0
        self._last = None
        self.healing = self._wants_room = False
        self.recent.drop()
        self._wake()

    # Following.

    def received(self, publication: Publication, position: Position, size: int) -> None:
        """A live publication, `size` payload bytes. On the path of every message with a position."""
        if self.healing:
            self._missed = True
        elif position.epoch != self.epoch:
            if self.epoch:
                self.heal()
        elif position.offset == self.top + 1 and self._owner.has_room(self._channel):
            self._take(publication, size)
        elif position.offset > self.top:
            self.heal()
        # Else it is known already: healing was faster than the subscriber connection.

    def heal(self) -> None:
        """Compare the position with the log, and take what is missing. Also how the first position is found."""
        if self.healing:
            self._missed = True
            return
        self.healing = True
        self._found = 0
        self._retry_s = RETRY_S[0]
        self._read()

    def when_healed(self, call: Callable[[], None]) -> None:
        """Call back when healing is over, has failed for now, or the feed was forgotten."""
        self._waiting.append(call)

    def looked(self) -> asyncio.Future[None]:
        """Look whether the log has more; done when that is known, or Redis does not answer."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look_is_over() -> None:
            if not done.done():
                done.set_result(None)

        self.when_healed(look_is_over)
        self.heal()
        return done

    def refused(self) -> None:
        """Redis does not let us listen: who waits need not wait longer."""
        self._wake()

    def pass_started(self) -> None:
        """A pass has taken everything that was there: there is room for more."""
        if self._wants_room:
            self._wants_room = False
            self._read()

    def _take(self, publication: Publication, size: int) -> None:
        self.top += 1
        self._last = publication
        self.recent.add(publication)
        self._owner.take(self._channel, publication, size)

    def _read(self) -> None:
        self._missed = False
        generation = self._generation
        after = self.top if self._last is None else self.top - 1
        try:
            reading = self._log.read(self._channel.name, after=after, limit=PAGE if self.epoch else 0)
        except BrokerError:
            self._later(generation)
            return
        reading.add_done_callback(partial(self._page_came, generation))

    def _later(self, generation: int) -> None:
        """Redis does not answer: again after a while. Nobody who wants to join has to wait for that."""
        self._wake()
        asyncio.get_running_loop().call_later(self._retry_s, self._retry, generation)
        self._retry_s = min(self._retry_s * 2, RETRY_S[1])

    def _retry(self, generation: int) -> None:
        if generation == self._generation and self.healing:
            self._read()

    def _page_came(self, generation: int, reading: asyncio.Future[Page]) -> None:
        if reading.cancelled() or generation != self._generation:
            return
        if reading.exception() is not None:
            self._later(generation)
            return
        page = reading.result()
        self._retry_s = RETRY_S[0]
        if self._contradicts(page):
            self._fork(generation)
            return
        if page.publications and page.publications[0].offset == self.top:
            del page.publications[0]
        if not self.epoch:
            self._start_at(page.top)
            self._owner.found(self)
        elif not self._continues(page):
            self._start_at(page.top)
            self._owner.too_short(self._channel)
        else:
            self._found += len(page.publications)
            for publication in page.publications:
                self._take(publication, data_bytes(publication))
        if not self._missed and self.top >= page.top.offset:
            self.healing = False
            self.checked_at = self._clock.monotonic()
            if self._found:
                self._owner.healed(self._channel, self._found)
            self._wake()
        elif self._owner.has_room(self._channel):
            self._read()
        else:
            self._wants_room = True

    def _contradicts(self, page: Page) -> bool:
        """Whether the log says something else of what was taken, in the name of the same epoch."""
        if page.top.epoch != self.epoch or not self._may_fork:
            return False
        if page.top.offset < self.top:
            return True
        first = page.publications[0] if page.publications else None
        return (
            first is not None and self._last is not None and first.offset == self.top and not _same(first, self._last)
        )

    def _fork(self, generation: int) -> None:
        """Have the log get another epoch, and read again."""
        try:
            forking = self._log.forked(self._channel.name, self.epoch)
        except BrokerError:
            self._later(generation)
            return
        forking.add_done_callback(partial(self._forked, generation))

    def _forked(self, generation: int, forking: asyncio.Future[Any]) -> None:
        if forking.cancelled() or generation != self._generation:
            return
        if forking.exception() is not None:
            self._later(generation)
        else:
            self._read()

    def _continues(self, page: Page) -> bool:
        """Whether `page` goes on exactly where the position is."""
        if page.top.epoch != self.epoch or page.top.offset < self.top:
            return False
        if not page.publications:
            return page.top.offset == self.top
        first, last = page.publications[0].offset, page.publications[-1].offset
        return first == self.top + 1 and last - first + 1 == len(page.publications)

    def _start_at(self, position: Position) -> None:
        self.epoch = position.epoch
        self.top = self.passed = position.offset
        self._last = None
        self.recent.drop()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


def _same(logged: Publication, taken: Publication) -> bool:
    """Whether they say the same. What came live is on one line, whatever it is in the log."""
    if logged.info != taken.info or logged.tags != taken.tags or not logged.data or not taken.data:
        return False
    if bytes(logged.data) == bytes(taken.data):
        return True
    try:
        return json_line(bytes(logged.data)) == bytes(taken.data)
    except DecodeError:
        return False
