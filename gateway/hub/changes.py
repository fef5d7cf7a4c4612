"""Telling subscribers who joins and leaves, in slices like publications (`fanout`).

Changes of one channel that are waiting leave together, encoded once per encoding. In a storm of joins there are
subscribers × clients of them: past the bound the oldest are dropped and counted, as publications without history are.
A subscriber whose send budget is used up misses the change; whoever needs to be sure asks for the presence.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from gateway.hub import forms
from gateway.hub.channel import Channel, Receiver
from gateway.metrics import names
from protocol.encodings import Encoding
from protocol.frames import Framing
from protocol.redis_contract import PresenceChange
from protocol.replies import Join, Leave, Push, Reply

TOGETHER: Final = 100
"""Changes of one channel that one round tells of."""
ROUND_COST: Final = 4
"""What starting a round counts in a slice, in deliveries."""


class ChangeFanout:
    """Delivers joins and leaves to the subscribers of channels, slice by slice."""

    def __init__(self, counters: memoryview[int], *, slice_deliveries: int, queue_messages: int) -> None:
        self._counters = counters
        self._slice = slice_deliveries
        self._bound = queue_messages
        self._waiting: dict[Channel, deque[PresenceChange]] = {}
        self._rounds: deque[_Round] = deque()
        self._scheduled = False

    def enqueue(self, channel: Channel, change: PresenceChange) -> None:
        """Have the subscribers of `channel` told. Never waits."""
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = deque()
            self._rounds.append(_Round(channel, waiting))
        waiting.append(change)
        if len(waiting) > self._bound:
            waiting.popleft()
            self._counters[names.DROPPED_QUEUE] += 1
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        """One turn: deliver about `slice_deliveries`, then let the loop do other work."""
        rounds = self._rounds
        budget = self._slice
        while rounds and budget > 0:
            current = rounds.popleft()
            budget -= current.advance(budget, self._counters)
            if current.left:
                rounds.append(current)
            elif waiting := self._waiting[current.channel]:
                rounds.append(_Round(current.channel, waiting))
            else:
                del self._waiting[current.channel]
        if rounds:
            asyncio.get_running_loop().call_soon(self._run_slice)
        else:
            self._scheduled = False


class _Round:
    """One walk over a channel's subscribers with the changes that were waiting when it began."""

    __slots__ = ("_changes", "_position", "_subscribers", "_told", "_waiting", "channel")

    def __init__(self, channel: Channel, waiting: deque[PresenceChange]) -> None:
        self.channel = channel
        self._waiting = waiting
        self._changes = 0
        self._told: dict[tuple[Framing, int], bytes] | None = None
        self._subscribers: tuple[Receiver, ...] = ()
        self._position = 0

    @property
    def left(self) -> int:
        """Subscribers that are to be told still."""
        return len(self._subscribers) - self._position

    def advance(self, budget: int, counters: memoryview[int]) -> int:
        """Tell at most `budget` subscribers. Returns what that cost, in deliveries."""
        channel = self.channel
        cost = 0
        if self._told is None:
            self._told = self._start()
            cost = ROUND_COST
        part = self._subscribers[self._position : self._position + budget]
        self._position += len(part)
        for subscriber in part:
            if subscriber not in channel.receivers and subscriber not in channel.behind:
                continue
            if subscriber.deliver(self._told[_form(channel, subscriber)]):
                counters[names.DROPPED_SLOW] += self._changes
                if channel.namespace.slow_consumer == "disconnect":
                    subscriber.too_slow()
        return cost + len(part)

    def _start(self) -> dict[tuple[Framing, int], bytes]:
        channel = self.channel
        changes = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
        self._changes = len(changes)
        self._subscribers = (*channel.receivers, *channel.behind)
        encoded: dict[tuple[Encoding, int], list[bytes]] = {}
        told = {}
        for framing, numbered in {_form(channel, subscriber) for subscriber in self._subscribers}:
            key = (framing.encoding, numbered)
            if key not in encoded:
                encode = framing.encoding.encode_reply
                encoded[key] = [encode(Reply(push=push_of(channel, change, numbered))) for change in changes]
            told[framing, numbered] = framing.frames(encoded[key])
        return told


def _form(channel: Channel, subscriber: Receiver) -> tuple[Framing, int]:
    return subscriber.framing, channel.shapes.get(subscriber, forms.DEFAULT) & forms.NUMBERED


def push_of(channel: Channel, change: PresenceChange, numbered: int) -> Push:
    """The push that tells of `change`."""
    push = Push(id=channel.number) if numbered else Push(channel=channel.name)
    if change.joined:
        push.join = Join(change.info)
    else:
        push.leave = Leave(change.info)
    return push
