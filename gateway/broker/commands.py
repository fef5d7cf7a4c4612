"""Commands for Redis: what arrives while Redis answers goes out together in the next round trip.

One round trip is in flight at a time, so commands are carried out in the order in which they were given, and the batch
grows with the load by itself. Nothing is retried: the answer may have been lost behind an executed command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from gateway.errors import BrokerBusy, BrokerError, BrokerFull, BrokerRefused, BrokerUnavailable
from gateway.storage.lost import lost_is_said
from gateway.tasks import fail, raise_if_cancelled

if TYPE_CHECKING:
    from redis.asyncio import Redis as RedisClient

MAX_WAITING: Final = 10_000
"""Commands that wait for Redis, and what they have grown by; above it `submit` refuses."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bytes that wait for Redis; above it `submit` refuses."""
BATCH: Final = 500
"""Commands in one round trip."""

PASSING: Final = (BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
"""Errors of a Redis that starts, or that has just stopped being the master, or has not all of a slot: nothing was done,
and soon it works."""

FULL: Final = ("MISCONF", "NOREPLICAS")
"""How other errors begin with which Redis refuses whatever anybody wants to write."""

Argument = bytes | str | int | float


class ScriptUnknown(BrokerRefused):
    """Redis does not know the script of an EVALSHA: nothing was done."""


class Growing(Protocol):
    """A command that may get more arguments until it is sent."""

    @property
    def size(self) -> int:
        """Bytes of its larger arguments, so far."""
        ...

    @property
    def operations(self) -> int:
        """What it counts, so far, against MAX_WAITING."""
        ...

    @property
    def key(self) -> Argument | None:
        """What decides in a cluster which server it is for; None = any."""
        ...

    def arguments(self) -> tuple[Argument, ...]:
        """The command with all its arguments. Asked for when it is sent."""
        ...


class Fixed(NamedTuple):
    """A command that is complete."""

    words: tuple[Argument, ...]
    size: int
    operations: int = 1

    @property
    def key(self) -> Argument | None:
        if self.words[0] in ("EVALSHA", "EVAL"):
            return self.words[3] if self.words[2] else None
        if self.words[0] in ("XGROUP", "XINFO"):
            return self.words[2]
        if self.words[0] in ("XREAD", "XREADGROUP"):
            return self.words[self.words.index("STREAMS") + 1]
        return self.words[1] if len(self.words) > 1 else None

    def arguments(self) -> tuple[Argument, ...]:
        return self.words


class _Waiting(NamedTuple):
    command: Growing
    done: asyncio.Future[Any]


class CommandQueue:
    """Carries out Redis commands, in order, many in one round trip. At most once.

    `gateway.broker.cluster_queue` is the one for a cluster.
    """

    def __init__(
        self, client: RedisClient | None, *, batch: int = BATCH, round_trip: Callable[[float], None] | None = None
    ) -> None:
        """`client`: None = a subclass knows where to send. `batch`: commands in one round trip; few for commands whose
        answers are large.

        `round_trip` is told how long each took, in seconds.
        """
        self._round_trip = round_trip
        self._client = client
        self._batch = batch
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._operations = 0
        self._wake = asyncio.Event()

    def publish(self, channel: bytes, payload: bytes) -> asyncio.Future[int]:
        """Queue one publication. The future gives the number of Redis subscribers that got it. Errors as `submit`."""
        return self.submit("PUBLISH", channel, payload, size=len(payload))

    def submit(self, *arguments: Argument, size: int = 0) -> asyncio.Future[Any]:
        """Queue one command; `size` = bytes of its larger arguments. The future gives Redis' answer.

        Raises BrokerBusy at once when too much waits; the future raises BrokerUnavailable (it may or may not have been
        carried out) or BrokerRefused.
        """
        return self.submit_growing(Fixed(arguments, size))

    def submit_growing(self, command: Growing) -> asyncio.Future[Any]:
        """Queue a command that may grow while it waits. As `submit`."""
        self._take(command.size)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(command, done))
        self._wake.set()
        return done

    @property
    def newest(self) -> Growing | None:
        """The last command in the queue, which may still grow without overtaking anything; None = all are sent."""
        return self._waiting[-1].command if self._waiting else None

    def grow(self, size: int) -> None:
        """The newest command is about to grow by one operation of `size` bytes. Raises BrokerBusy: then it must not."""
        self._take(size)

    def _take(self, size: int) -> None:
        if self._operations >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise BrokerBusy(self._operations)
        self._operations += 1
        self._waiting_bytes += size

    async def run(self) -> None:
        """Send what is queued until cancelled; what is queued then fails with BrokerUnavailable."""
        batch: list[_Waiting] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                    self._waiting_bytes -= sum(waiting.command.size for waiting in batch)
                    self._operations -= sum(waiting.command.operations for waiting in batch)
                    await self._send(batch)
                    raise_if_cancelled()
        finally:
            for waiting in (*batch, *self._waiting):
                settle(waiting.done, BrokerUnavailable("the gateway is stopping"))
            self._waiting.clear()
            self._waiting_bytes = self._operations = 0

    async def _send(self, batch: list[_Waiting]) -> None:
        begun = perf_counter()
        try:
            async with cast("RedisClient", self._client).pipeline(transaction=False) as pipeline:
                for waiting in batch:
                    pipeline.execute_command(*waiting.command.arguments())
                with lost_is_said():
                    answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            answers = [BrokerUnavailable(str(error))] * len(batch)
        if self._round_trip is not None:
            self._round_trip(perf_counter() - begun)
        for waiting, answer in zip(batch, answers, strict=True):
            settle(waiting.done, meaning(answer))


def meaning(answer: object) -> object:
    """Redis' answer, or redis-py's error, as what the future gives or raises."""
    if isinstance(answer, NoScriptError):
        return ScriptUnknown(str(answer))
    if isinstance(answer, OutOfMemoryError) or (isinstance(answer, ResponseError) and str(answer).startswith(FULL)):
        return BrokerFull(str(answer))
    if isinstance(answer, ResponseError) and not isinstance(answer, PASSING):
        return BrokerRefused(str(answer))
    if isinstance(answer, RedisError):
        return BrokerUnavailable(str(answer))
    return answer


def settle(done: asyncio.Future[Any], answer: object) -> None:
    if done.done():
        return
    if isinstance(answer, BrokerError):
        fail(done, answer)
    else:
        done.set_result(answer)
