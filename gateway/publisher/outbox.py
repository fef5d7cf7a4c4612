"""Publications on their way to Redis: what arrives during one round trip leaves in the next, and in order.

One window of publications is under way at a time, each in one pipeline. When Redis does not answer, those of the window
that carry an idempotency key return to the front and go out again, before anything newer; so order is kept, and the
key keeps Redis from taking one twice. Those without a key fail at once: an answer may have been lost behind an
executed PUBLISH. While Redis is away everything else waits behind them, each publication until its own deadline.

A caller that is cancelled takes its publication along, unless it is under way already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from gateway.broker.backoff import Backoff
from gateway.errors import BrokerBusy, BrokerUnavailable, PublisherClosed, PublishFailed
from gateway.publisher.messages import Prepared
from protocol.position import Position

WINDOW: Final = 500
"""Publications in one round trip."""
WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Payload bytes in one round trip, above which the rest waits for the next."""
MAX_WAITING: Final = 10_000
"""Publications that may wait; above it `put` refuses."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Payload bytes that may wait; above it `put` refuses."""

Send = Callable[[Prepared], "asyncio.Future[Position | None]"]
"""Hands one publication to Redis. The future raises BrokerError."""


class _Waiting:
    """A publication whose caller waits."""

    __slots__ = ("accepted_at", "attempts", "done", "prepared")

    def __init__(self, prepared: Prepared, done: asyncio.Future[Position | None], accepted_at: float) -> None:
        self.prepared = prepared
        self.done = done
        self.accepted_at = accepted_at
        self.attempts = 0


class Outbox:
    """Sends publications in the order of `put`, and again while it may."""

    def __init__(self, send: Send, backoff: Backoff, *, retry_for_s: float) -> None:
        self._send = send
        self._backoff = backoff
        self._retry_for_s = retry_for_s
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._under_way: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._closed: str = ""

    def put(self, prepared: Prepared) -> asyncio.Future[Position | None]:
        """Accept one publication. The future gives its position, None for one without history.

        Raises PublisherClosed, and BrokerBusy when too much waits; the future raises PublishFailed and BrokerRefused.
        """
        if self._closed:
            raise PublisherClosed(self._closed)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise BrokerBusy(len(self._waiting))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(prepared, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        self._waiting_bytes += len(prepared.payload)
        self._wake.set()
        return waiting.done

    def refuse(self, reason: str) -> None:
        """Accept nothing more; what was accepted goes on."""
        self._closed = self._closed or reason

    def fail(self, error: BaseException) -> None:
        """Everything that was accepted, and everything to come, fails: `run` has ended."""
        self.refuse(f"the publisher has ended: {error or type(error).__name__}")
        for waiting in (*self._under_way, *self._waiting):
            self._settle(waiting, self._failure(waiting, error))
        self._under_way = []
        self._waiting.clear()
        self._waiting_bytes = 0

    async def wait_empty(self) -> None:
        """Return when nothing waits and nothing is under way."""
        while unsettled := [each.done for each in (*self._under_way, *self._waiting) if not each.done.done()]:
            await asyncio.wait(unsettled)

    async def run(self) -> None:
        """Send what is accepted until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    self._under_way = self._next_window()
                    error = await self._send_window()
                    self._under_way = []
                    if error is None:
                        self._backoff.reset()
                    else:
                        await self._wait_for_redis(error)
        except asyncio.CancelledError as error:
            self.fail(error)
            raise

    def _next_window(self) -> list[_Waiting]:
        window: list[_Waiting] = []
        size = 0
        while self._waiting and len(window) < WINDOW and size < WINDOW_BYTES:
            waiting = self._waiting.popleft()
            self._waiting_bytes -= len(waiting.prepared.payload)
            if not waiting.done.done():  # else its caller was cancelled
                window.append(waiting)
                size += len(waiting.prepared.payload)
        return window

    async def _send_window(self) -> BrokerUnavailable | None:
        """One round trip. What must go out again is in front of what waits, then; and why."""
        window = self._under_way
        if not window:
            return None
        sent: list[asyncio.Future[Position | None]] = []
        for waiting in window:
            waiting.attempts += 1
            sent.append(self._send(waiting.prepared))
        await asyncio.wait(sent)
        again: list[_Waiting] = []
        reason: BrokerUnavailable | None = None
        for waiting, answer in zip(window, sent, strict=True):
            error = answer.exception()
            if isinstance(error, BrokerUnavailable):
                reason = error
                if waiting.prepared.key:
                    again.append(waiting)
                else:
                    self._settle(waiting, self._failure(waiting, error))
            else:
                self._settle(waiting, error or answer.result())
        self._put_back(again)
        return reason

    def _put_back(self, again: Iterable[_Waiting]) -> None:
        again = [waiting for waiting in again if not waiting.done.done()]
        self._waiting.extendleft(reversed(again))
        self._waiting_bytes += sum(len(waiting.prepared.payload) for waiting in again)

    async def _wait_for_redis(self, error: BrokerUnavailable) -> None:
        """Give up what has waited too long, and wait a while for the rest."""
        now = asyncio.get_running_loop().time()
        # The oldest stand first: what was put back was accepted before everything behind it.
        while self._waiting and self._waiting[0].accepted_at + self._retry_for_s <= now:
            waiting = self._waiting.popleft()
            self._waiting_bytes -= len(waiting.prepared.payload)
            self._settle(waiting, self._failure(waiting, error))
        if self._waiting:
            left_s = self._waiting[0].accepted_at + self._retry_for_s - now
            await asyncio.sleep(min(self._backoff.next_delay(), left_s))

    def _failure(self, waiting: _Waiting, error: BaseException) -> PublishFailed:
        waited_s = asyncio.get_running_loop().time() - waiting.accepted_at
        reason = str(error) or type(error).__name__
        failure = PublishFailed(waiting.prepared.channel, waiting.attempts, waited_s, reason)
        failure.__cause__ = error
        return failure

    @staticmethod
    def _settle(waiting: _Waiting, answer: Position | BaseException | None) -> None:
        if waiting.done.done():
            return
        if isinstance(answer, BaseException):
            waiting.done.set_exception(answer)
        else:
            waiting.done.set_result(answer)
