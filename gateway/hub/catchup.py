"""Subscribers that are behind: slow readers that catch up, and clients that recover more than one page.

Of a channel with history, a subscriber whose send budget is used up leaves the passes with its offset. When its socket
has drained it reads on, page by page, from what the feed keeps in memory or from the log; when it has all that passes
have had, it joins them again, in the same step. It costs its send budget and an offset, however long it takes.

`conflate`: such a subscriber stays in the passes, which skip it, and gets the newest publication when it has drained.

Subscribers that wait for something (a drained socket, a page, a pass) are in no queue; the others advance in slices, so
that the event loop turns to other work in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.errors import BrokerError
from gateway.hub import forms
from gateway.hub.channel import Channel, Receiver
from gateway.hub.forms import Rendering
from gateway.metrics import names
from protocol.replies import Publication

SLICE: Final = 64
"""Pages written in a row before the event loop turns to other work."""
RETRY_S: Final = 1.0
"""Time before a page that Redis did not give is asked for again."""
TELL: Final = (100, 0.05)
"""Subscribers that are told of lost publications at once, and the time until the next ones: their SDKs come back."""
LOST: Final = -1
"""In place of an offset: the subscriber has missed publications and is about to be told."""

Condense = Callable[[str, str, list[Publication]], list[Publication]]
"""Makes what is to be caught up with shorter. The last offset stays."""


def _as_it_is(_channel: str, _epoch: str, page: list[Publication]) -> list[Publication]:
    return page


class CatchUp:
    """Brings subscribers that are behind up to date."""

    def __init__(self, counters: memoryview[int], condense: Condense = _as_it_is) -> None:
        """`condense` may make less of a page; it gets the name of the channel and its epoch, too."""
        self._condense = condense
        self._counters = counters
        self._ready: deque[tuple[Channel, Receiver]] = deque()
        self._scheduled = False
        self._stalled: dict[Receiver, dict[Channel, None]] = {}
        self._lost: deque[tuple[Channel, Receiver]] = deque()
        self._telling = False
        self._shared: tuple[Channel, int, int, Rendering] | None = None

    def begin(self, channel: Channel, receiver: Receiver, offset: int) -> None:
        """`receiver` has everything up to `offset`, and is not in the passes of `channel`."""
        channel.behind[receiver] = offset
        self._go_on(channel, receiver)

    def stalled(self, channel: Channel, receivers: list[Receiver], offset: int) -> None:
        """A pass could not write to `receivers`, which have everything up to `offset`."""
        policy = channel.namespace.slow_consumer
        for receiver in receivers:
            if receiver not in channel.receivers:
                continue
            if policy == "catch_up" and channel.feed is not None:
                channel.set_aside(receiver, offset)
                self._counters[names.FELL_BEHIND] += 1
            elif policy == "conflate":
                channel.refused[receiver] = channel.passes
            else:
                continue
            self._stalled.setdefault(receiver, {})[channel] = None

    def drained(self, receiver: Receiver) -> None:
        """The socket of `receiver` takes bytes again."""
        for channel in self._stalled.pop(receiver, ()):
            self._go_on(channel, receiver)

    def forget(self, channel: Channel, receiver: Receiver) -> None:
        """`receiver` has left `channel`."""
        channel.refused.pop(receiver, None)
        channels = self._stalled.get(receiver)
        if channels is not None:
            channels.pop(channel, None)
            if not channels:
                del self._stalled[receiver]

    def lose(self, channel: Channel) -> None:
        """Everybody in `channel` has missed what nobody can give them any more: tell them, paced."""
        for receiver in list(channel.receivers):
            channel.set_aside(receiver, LOST)
            self._lost.append((channel, receiver))
        for receiver, offset in channel.behind.items():
            if offset != LOST:
                self._lost.append((channel, receiver))
            channel.behind[receiver] = LOST
        self._tell()

    # Advancing.

    def _go_on(self, channel: Channel, receiver: Receiver) -> None:
        self._ready.append((channel, receiver))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        for _ in range(min(SLICE, len(self._ready))):
            channel, receiver = self._ready.popleft()
            if receiver in channel.behind:
                self._advance(channel, receiver)
            elif receiver in channel.refused:
                self._conflate(channel, receiver)
        self._scheduled = bool(self._ready)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._run_slice)
        else:
            self._shared = None

    def _advance(self, channel: Channel, receiver: Receiver) -> None:
        offset, feed = channel.behind[receiver], channel.feed
        if offset == LOST or feed is None:
            return
        if offset == feed.passed:
            channel.take_back(receiver)
            return
        if offset > feed.passed:
            # It has seen more elsewhere than passes here have had: after the next one, this worker is as far.
            asyncio.get_running_loop().call_later(0.01, self._go_on, channel, receiver)
            return
        page = feed.recent.fetch(offset, limit=256)
        if isinstance(page, list):
            self._write(channel, receiver, offset, page)
        else:
            page.add_done_callback(partial(self._page_came, channel, receiver, offset))

    def _page_came(
        self, channel: Channel, receiver: Receiver, offset: int, page: asyncio.Future[list[Publication]]
    ) -> None:
        if page.cancelled() or channel.behind.get(receiver) != offset:
            return
        error = page.exception()
        if error is None:
            self._write(channel, receiver, offset, page.result())
        elif isinstance(error, BrokerError):
            asyncio.get_running_loop().call_later(RETRY_S, self._go_on, channel, receiver)
        else:
            channel.behind[receiver] = LOST
            self._lost.append((channel, receiver))
            self._tell()

    def _write(self, channel: Channel, receiver: Receiver, offset: int, page: list[Publication]) -> None:
        if page:
            frames = self._encode(channel, receiver, offset, page)
            if receiver.deliver(frames):
                self._stalled.setdefault(receiver, {})[channel] = None
                return
            self._counters[names.DELIVERIES] += len(page)
            self._counters[names.BYTES_OUT] += len(frames)
            channel.behind[receiver] = page[-1].offset
        self._go_on(channel, receiver)

    def _encode(self, channel: Channel, receiver: Receiver, offset: int, page: list[Publication]) -> bytes:
        """The frames of a page, encoded once for subscribers that are equally far behind."""
        key = (channel, offset, len(page))
        if self._shared is None or self._shared[:3] != key:
            epoch = channel.feed.epoch if channel.feed is not None else ""
            self._shared = (*key, Rendering(channel, self._condense(channel.name, epoch, page)))
        return self._shared[3].frames(receiver.framing, channel.shapes.get(receiver, forms.DEFAULT))

    def _conflate(self, channel: Channel, receiver: Receiver) -> None:
        if channel.running:
            self._go_on(channel, receiver)  # The pass may come to it yet, and then it has the newest.
            return
        refused = channel.refused.pop(receiver)
        if refused != channel.passes or channel.newest is None:
            return
        if receiver.deliver(
            Rendering(channel, (channel.newest,)).frames(receiver.framing, channel.shapes.get(receiver, forms.DEFAULT))
        ):
            channel.refused[receiver] = refused
            self._stalled.setdefault(receiver, {})[channel] = None
        else:
            self._counters[names.DELIVERIES] += 1

    # Telling.

    def _tell(self) -> None:
        if not self._telling and self._lost:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_some)

    def _tell_some(self) -> None:
        count, pause_s = TELL
        for _ in range(min(count, len(self._lost))):
            channel, receiver = self._lost.popleft()
            if channel.behind.get(receiver) == LOST:
                self._counters[names.TOLD_LOST] += 1
                receiver.subscription_lost(channel.name)
        self._telling = bool(self._lost)
        if self._telling:
            asyncio.get_running_loop().call_later(pause_s, self._tell_some)
