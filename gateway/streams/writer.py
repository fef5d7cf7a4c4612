"""The producer's side of one stream: text goes out at once, then in small pieces.

Theory of operation. `append` puts text into a buffer; one task makes records of it and sends them
(`gateway.streams.delivery`), one call at a time. The first text is sent at once. Later text waits for more, 40 ms at
most, unless a line or sentence ends in it or there is 1 KiB. While Redis is away the buffer fills, and then `append`
waits. The same task says that the producer lives.

Whoever else ends the stream (a client that cancels, a newer generation, the reaper) is heard at the next answer or, if
`interrupt` is set, at once: then the task that produces is cancelled, and `async with` raises StreamEnded instead. The
rule that is easiest to break: clients are told what `append`, `finish` and `fail` were given and nothing else; messages
of exceptions are not for them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from gateway.broker.streams import Ending, Mode, StreamStore, stream_channel
from gateway.errors import (
    BrokerError,
    StreamCancelled,
    StreamClosed,
    StreamEnded,
    StreamError,
    StreamInvalid,
    StreamUnavailable,
)
from gateway.log import get_logger
from gateway.streams.delivery import Delivery
from gateway.streams.options import Options

BUFFER_BYTES: Final = 65_536
"""Text that waits for Redis, above which `append` waits, too."""
SENTENCE_ENDS: Final = (".", "!", "?", ":", "…", "。", "！", "？")
BEHIND_SENTENCES: Final = " \t\"'»”’)]*"
"""Characters that may stand between the end of a sentence and that of the text."""
LAST_WORDS_S: Final = 1.0
"""Time to say that a producer has failed."""


class Registration(NamedTuple):
    """How a stream is opened."""

    key: str
    generation: str
    owner: str
    mode: Mode
    interrupt: bool
    abandon_after_s: float | None
    options: Options


class StreamWriter:
    """One generation of one stream, inside `async with`: leaving it finishes the stream, an exception fails it.

    Methods raise StreamEnded when somebody else has ended it, StreamUnavailable, BrokerRefused, StreamClosed.
    """

    def __init__(
        self,
        store: StreamStore,
        registration: Registration,
        entered: Callable[[StreamWriter], Awaitable[None]],
        left: Callable[[StreamWriter], None],
    ) -> None:
        """Made by `Streams.open`. `entered` and `left` keep the list of writers."""
        self.key = registration.key
        self.generation = registration.generation
        self.channel = stream_channel(registration.key)
        """The channel that clients subscribe to."""
        self._registration = registration
        self._options = registration.options
        patience_s = registration.abandon_after_s
        self._silence_s = min(self._options.lease_s, math.inf if patience_s is None else patience_s) / 3
        """Time after which it says that the producer lives, and hears whether anybody watches."""
        self._delivery = Delivery(
            store,
            self.key,
            self.generation,
            registration.owner,
            self._options.life(),
            retry_for_s=self._options.retry_for_s,
            alive=self._alive,
        )
        self._entered = entered
        self._left = left
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._begun = False
        self._due_at: float | None = None
        """When the buffer is to be sent, on the loop's clock; None = it is empty."""
        self._alive_at = 0.0
        """When Redis last heard that the producer lives."""
        self._watched_at = 0.0
        self._look = False
        self._error: StreamError | BrokerError | None = None
        self._told = False
        """Whether the producer has seen the error."""
        self._over = True
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._turn = asyncio.Lock()
        self._sending: asyncio.Task[None] | None = None
        self._producer: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._interrupted = False

    @property
    def seq(self) -> int:
        """Number of the newest record that Redis has confirmed."""
        return self._delivery.confirmed

    async def __aenter__(self) -> Self:
        """Register the generation. Raises StreamActive, StreamUnavailable, BrokerRefused."""
        if self._sending is not None:
            raise StreamClosed("a writer is entered once")
        await self._entered(self)
        try:
            await self._delivery.open(self._registration.mode)
        except BaseException:
            self._left(self)
            raise
        self._over = False
        loop = asyncio.get_running_loop()
        self._alive_at = self._watched_at = loop.time()
        if self._registration.interrupt and (producer := asyncio.current_task()) is not None:
            self._producer = producer
            self._cancelling = producer.cancelling()
        self._sending = loop.create_task(self._send_until_over())
        return self

    async def append(self, text: str) -> None:
        """Add text. Returns when it is on its way; waits only while much of it waits for Redis.

        Raises StreamInvalid for what is not text, StreamTruncated once the text has reached its size.
        """
        self._check()
        if not isinstance(text, str):
            raise StreamInvalid(f"text is a {type(text).__name__}, not a str")
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise StreamInvalid(f"text: {error.reason} at {error.start}") from error
        if not encoded:
            return
        self._buffer.append(encoded)
        self._buffered += len(encoded)
        now = asyncio.get_running_loop().time()
        if not self._begun or self._buffered >= self._options.coalesce_bytes or is_boundary(text):
            self._begun = True
            self._due_at = now
            self._wake.set()
        elif self._due_at is None:
            self._due_at = now + self._options.coalesce_s
            self._wake.set()
        while self._buffered > BUFFER_BYTES and not self._over:
            self._moved.clear()
            await self._moved.wait()
        self._raise_error()

    async def finish(self, usage: Any = None, result: Any = None) -> None:
        """End it well, with what the producer wants to say of it: any JSON, 64 KiB at most."""
        await self._end("finished", {"usage": usage, "result": result})

    async def fail(self, code: str, message: str, usage: Any = None) -> None:
        """End it badly. Clients see both words."""
        await self._end("failed", {"code": code, "message": message, "usage": usage})

    async def cancel(self, reason: str = "producer", usage: Any = None) -> None:
        """End it because nobody wants it any more."""
        await self._end("cancelled", {"reason": reason, "usage": usage})

    async def truncate(self, reason: str = "length", usage: Any = None) -> None:
        """End it because there is enough of it, as when a model has reached its number of tokens."""
        await self._end("truncated", {"reason": reason, "usage": usage})

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        producer, self._producer = self._producer, None
        try:
            if self._interrupted and producer is not None:
                alone = producer.uncancel() <= self._cancelling
                if kind is None or (kind is asyncio.CancelledError and alone):
                    self._raise_error()
            elif self._over:
                if kind is None and not self._told:
                    self._raise_error()
            elif kind is None:
                await self.finish()
            else:
                await self._last_words(stopped=kind is asyncio.CancelledError)
        finally:
            await self._stop()

    def ended_elsewhere(self) -> None:
        """Somebody says that the generation was ended: look."""
        self._look = True
        self._wake.set()

    # Sending. One at a time: whoever holds `_turn`.

    async def _send_until_over(self) -> None:
        """Send what is due and say that the producer lives, until the stream is over."""
        try:
            while not self._over:
                await self._wait_for_work()
                async with self._turn:
                    if not self._over:
                        await self._work()
        except (StreamError, BrokerError) as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - the producer must learn of it
            get_logger().error("stream cannot be written", channel=self.channel, exc_info=error)
            self._failed(StreamUnavailable(f"the stream cannot be written: {type(error).__name__}"))

    async def _wait_for_work(self) -> None:
        next_at = self._alive_at + self._silence_s
        if self._due_at is not None:
            next_at = min(next_at, self._due_at)
        delay_s = next_at - asyncio.get_running_loop().time()
        if delay_s <= 0 or self._look:
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _work(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._look or now >= self._alive_at + self._silence_s:
            self._look = False
            await self._delivery.renew()
        if self._due_at is not None and self._due_at <= now:
            self._freeze()
        await self._delivery.send()
        patience_s = self._registration.abandon_after_s
        if patience_s is not None and self._alive_at - self._watched_at > patience_s:
            terminal = await self._delivery.end("cancelled", {"reason": "nobody watches"})
            raise StreamCancelled(self.key, "cancelled", terminal)

    def _freeze(self) -> None:
        """Make records of what is in the buffer."""
        self._delivery.add(b"".join(self._buffer))
        self._buffer.clear()
        self._buffered = 0
        self._due_at = None
        self._moved.set()

    def _alive(self, workers: int) -> None:
        self._alive_at = asyncio.get_running_loop().time()
        if workers:
            self._watched_at = self._alive_at

    # The end.

    async def _end(self, status: Ending, fields: dict[str, Any]) -> None:
        self._check()
        async with self._turn:
            self._check()
            try:
                self._freeze()
                await self._delivery.end(status, {name: value for name, value in fields.items() if value is not None})
            except StreamInvalid:
                raise
            except (StreamError, BrokerError) as error:
                self._failed(error)
                self._raise_error()
            self._over = True
            self._wake.set()

    async def _last_words(self, *, stopped: bool) -> None:
        """The producer has failed: say so if that is possible now; else the reaper will."""
        code, message = (
            ("producer_stopped", "the producer was stopped") if stopped else ("error", "the producer failed")
        )
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self.fail(code, message)
        except (TimeoutError, StreamError, BrokerError) as error:
            get_logger().warning("stream not ended", channel=self.channel, reason=str(error))

    def _check(self) -> None:
        self._raise_error()
        if self._over:
            raise StreamClosed(f'"{self.key}" is over' if self._sending else "use the writer inside `async with`")

    def _raise_error(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _failed(self, error: StreamError | BrokerError) -> None:
        """Nothing more can be written."""
        self._error = self._error or error
        self._over = True
        self._moved.set()
        self._wake.set()
        producer = self._producer
        if isinstance(error, StreamEnded) and producer is not None and producer is not asyncio.current_task():
            self._interrupted = True
            producer.cancel()

    async def _stop(self) -> None:
        self._over = True
        self._left(self)
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)


def is_boundary(text: str) -> bool:
    """Whether a line ends in `text`, or a sentence with it."""
    return "\n" in text or text.rstrip(BEHIND_SENTENCES).endswith(SENTENCE_ENDS)
