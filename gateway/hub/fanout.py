"""Fan-out passes: the batched broadcast worker.

Per channel at most one pass runs. It takes all publications that are pending, encodes them once per encoding in use,
joins them into as few WebSocket frames as possible, and writes the same bytes to every receiver, one write each.
Publications that arrive meanwhile wait for the next pass. So a lone message leaves at once, and under load each write
carries more messages: the kernel's `send` is what a delivery costs, fuller writes are the only lever.

A pass advances in slices. After a slice the event loop turns to other work (handshakes, commands, pings), and the next
slice belongs to the next active channel: one publication to 10,000 receivers does not hold up a channel with three.

Shared bytes may be written only on the loop's thread to an open connection outside a fragmented message; `deliver`
keeps that. Measured by `make bench` (rows of the gateway at 1 and 10 messages a pass).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

from gateway.hub import forms
from gateway.hub.channel import Audience, Channel, Receiver
from gateway.hub.forms import Rendering
from gateway.hub.sample import PublishSample
from gateway.metrics import LatencyRecorder, names
from protocol.replies import Publication

PASS_COST: Final = 4
"""What starting a pass counts in a slice, in deliveries: many small channels must not add up to a long slice."""

FellBehind = Callable[[Channel, list[Receiver], int], None]
"""Receivers that a pass could not write to, and the offset up to which they have everything."""


class Fanout:
    """Delivers publications to the receivers of channels, slice by slice."""

    def __init__(
        self,
        counters: memoryview[int],
        fell_behind: FellBehind,
        *,
        slice_deliveries: int,
        queue_messages: int,
        queue_bytes: int,
        latency: LatencyRecorder | None = None,
    ) -> None:
        """`fell_behind` takes care of receivers that a pass could not write to. `latency` gets the time of passes."""
        self._latency = latency
        self._sample = PublishSample()
        self._counters = counters
        self._fell_behind = fell_behind
        self._slice = slice_deliveries
        self._queue_messages = queue_messages
        self._queue_bytes = queue_bytes
        self._active: deque[_Pass] = deque()
        self._scheduled = False

    @property
    def delivering(self) -> bool:
        """Whether passes are under way."""
        return self._scheduled

    def follow(self, channel: str, client: str) -> None:
        """A client of this worker publishes now: measure how long that takes to the sockets, one at a time."""
        if self._latency is not None:
            self._sample.begin(channel, client, perf_counter())

    def enqueue(self, channel: Channel, publication: Publication, size: int) -> None:
        """Have `publication` (`size` payload bytes) delivered to the receivers of `channel`. Never waits.

        Past the bounds of the channel's queue the oldest publications are dropped and counted. Not so on a channel
        with history: there the feed looks for room first.
        """
        counters = self._counters
        if channel.pending is None:
            channel.pending = deque()
        if self._latency is not None:
            if not channel.pending:
                channel.arrived_s = perf_counter()
            if self._sample.channel and self._sample.ends_with(channel.name, publication):
                channel.followed_s = self._sample.begun_s
        channel.pending.append((publication, size))
        channel.pending_bytes += size
        counters[names.QUEUED_BYTES] += size
        while channel.feed is None and (
            len(channel.pending) > self._queue_messages
            or (channel.pending_bytes > self._queue_bytes and len(channel.pending) > 1)
        ):
            _, dropped = channel.pending.popleft()
            channel.pending_bytes -= dropped
            counters[names.QUEUED_BYTES] -= dropped
            counters[names.DROPPED_QUEUE] += 1
        if not channel.running:
            channel.running = True
            self._active.append(_Pass(channel, self._fell_behind))
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._run_slice)

    def has_room(self, channel: Channel) -> bool:
        """Whether more may wait for the channel's next pass."""
        pending = channel.pending
        return not pending or (len(pending) < self._queue_messages and channel.pending_bytes < self._queue_bytes)

    def discard(self, channel: Channel) -> None:
        """Forget what waits for the channel's next pass."""
        if channel.pending:
            channel.pending.clear()
            channel.followed_s = 0.0
            self._counters[names.QUEUED_BYTES] -= channel.pending_bytes
            channel.pending_bytes = 0

    def _run_slice(self) -> None:
        """One turn: deliver about `slice_deliveries`, then let the loop do other work."""
        active = self._active
        budget = self._slice
        while active and budget > 0:
            current = active.popleft()
            budget -= current.advance(budget, self._counters)
            if not current.finished:
                active.append(current)
                continue
            self._counters[names.PASSES] += 1
            if self._latency is not None:
                current.measure(self._latency)
            if current.channel.pending:
                active.append(_Pass(current.channel, self._fell_behind))
            else:
                current.channel.pending = None
                current.channel.running = False
        if active:
            asyncio.get_running_loop().call_soon(self._run_slice)
        else:
            self._scheduled = False


class _Pass:
    """One walk over a channel's receivers with what was pending when it began."""

    __slots__ = (
        "_after",
        "_arrived_s",
        "_changes",
        "_fell_behind",
        "_followed_s",
        "_frames",
        "_fresh",
        "_groups",
        "_messages",
        "_number",
        "_position",
        "_receivers",
        "_started",
        "channel",
    )

    def __init__(self, channel: Channel, fell_behind: FellBehind) -> None:
        self.channel = channel
        self._fell_behind = fell_behind
        self._number = 0
        self._after = 0
        self._arrived_s = self._followed_s = 0.0
        self._started = False
        self._groups: list[tuple[bytes, bool, tuple[Receiver, ...]]] = []
        self._fresh = False
        self._receivers: tuple[Receiver, ...] = ()
        self._frames = b""
        self._position = 0
        self._messages = 0
        self._changes = 0

    @property
    def finished(self) -> bool:
        return self._started and not self._groups and self._position >= len(self._receivers)

    def advance(self, budget: int, counters: memoryview[int]) -> int:
        """Deliver to at most `budget` receivers. Returns what that cost, in deliveries."""
        cost = 0
        if not self._started:
            self._start(counters)
            cost = PASS_COST
        while budget > 0:
            if self._position >= len(self._receivers):
                if not self._groups:
                    break
                self._frames, self._fresh, self._receivers = self._groups.pop()
                self._position = 0
            part = self._receivers[self._position : self._position + budget]
            self._position += len(part)
            cost += len(part)
            budget -= len(part)
            self._deliver(part, counters)
        return cost

    def _start(self, counters: memoryview[int]) -> None:
        channel = self.channel
        self._started = True
        pending = channel.pending
        if not pending:
            return
        channel.passes += 1
        self._number = channel.passes
        self._arrived_s, self._followed_s, channel.followed_s = channel.arrived_s, channel.followed_s, 0.0
        if channel.feed is not None:
            self._after = channel.feed.passed
            channel.feed.passed = channel.feed.top
        publications = [publication for publication, _ in pending]
        pending.clear()
        counters[names.QUEUED_BYTES] -= channel.pending_bytes
        channel.pending_bytes = 0
        self._messages = len(publications)
        self._changes = channel.changes
        audience: Audience = channel.audience()
        rendering = Rendering(channel, publications, channel.base)
        self._groups = [
            (rendering.frames(framing, shape), bool(shape & forms.FRESH), receivers)
            for framing, shape, receivers in audience
        ]
        deltas = any(shape & forms.DELTA for _, shape, _ in audience)
        channel.base = publications[-1] if deltas else None
        if channel.namespace.slow_consumer == "conflate":
            channel.newest = publications[-1]
        if channel.feed is not None:
            channel.feed.pass_started()

    def measure(self, latency: LatencyRecorder) -> None:
        """The pass is over: how long after the arrival of its first publication, and after a client's publish."""
        now = perf_counter()
        if self._arrived_s:
            latency.record(names.OP_BROADCAST, now - self._arrived_s, self.channel.name)
        if self._followed_s:
            latency.record(names.OP_PUBLISH_TO_SOCKET, now - self._followed_s, self.channel.name)

    def _deliver(self, receivers: tuple[Receiver, ...], counters: memoryview[int]) -> None:
        """The innermost loop of the gateway: about 1 µs of Python a delivery beside the kernel's send."""
        channel = self.channel
        shared = self._frames
        here: Sequence[Receiver] = receivers
        if channel.changes != self._changes:
            # Who has left, and also who has come back since: what this pass carries was part of its recovery.
            joined, number = channel.receivers, self._number
            here = [receiver for receiver in receivers if joined.get(receiver, number) < number]
        slow = [receiver for receiver in here if receiver.deliver(shared)]
        if self._fresh:
            channel.primed(here)
        delivered = len(here) - len(slow)
        counters[names.DELIVERIES] += delivered * self._messages
        counters[names.BYTES_OUT] += delivered * len(shared)
        if slow:
            channel.freshen(slow)
            counters[names.DROPPED_SLOW] += len(slow) * self._messages
            if channel.namespace.slow_consumer == "disconnect":
                for receiver in slow:
                    receiver.too_slow()
            else:
                self._fell_behind(channel, slow, self._after)
