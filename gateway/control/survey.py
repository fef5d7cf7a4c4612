"""`channels`: which channels have subscribers, and how many. Nobody keeps that list: every worker is asked for its own.

The question is a control message; workers push their answers, in pages, onto a list in Redis that is this question's
own. How many answers there will be is what PUBLISH says. The rule that is easiest to break: an answer with a worker
missing looks like a smaller one, so it is never given.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.broker import CommandQueue
from gateway.clock import Clock
from gateway.control.answers import ApiError
from gateway.control.fields import encode
from gateway.control.methods import Method
from gateway.control.streams import PAGE, Pieces
from gateway.errors import BrokerError
from gateway.log import get_logger
from protocol.codes import INTERNAL, LIMIT_EXCEEDED
from protocol.control_messages import Survey, SurveyPage, encode_control
from protocol.redis_contract import control_channel, survey_key

ANSWERED_WITHIN_S: Final = 2.0
"""Time that all workers together have."""
POLL_S: Final = 0.01
"""Time between two looks at the answers."""
MAX_CHANNELS: Final = 100_000
"""Channels in one answer."""
PAGES: Final = 8
"""Pages that are taken from the list at once."""

_page: Final = msgspec.json.Decoder(SurveyPage)


class ChannelsRequest(msgspec.Struct):
    """Which channels."""

    pattern: Annotated[
        str, Meta(max_length=1024, description="Glob over names: *, ?, […]; empty = all. An answer has 100,000 at most")
    ] = ""


class ChannelInfo(msgspec.Struct):
    """About one channel."""

    num_clients: int


class ChannelsResult(msgspec.Struct):
    """Every channel that has subscribers."""

    channels: dict[str, ChannelInfo]


class Surveys:
    """Asks all workers."""

    def __init__(self, writes: CommandQueue, reads: CommandQueue, clock: Clock, *, prefix: str) -> None:
        self._writes = writes
        self._reads = reads
        self._clock = clock
        self._prefix = prefix

    async def channels(self, request: ChannelsRequest) -> Pieces:
        """Raises ApiError: 100 when not every worker answers in time, 106 for too many channels; BrokerError."""
        return _pieces(await self._ask(request.pattern or "*"))

    async def _ask(self, pattern: str) -> dict[str, int]:
        key = survey_key(self._prefix, os.urandom(12).hex())
        message = encode_control(Survey(reply_to=key.decode(), pattern=pattern))
        asked = await self._writes.publish(control_channel(self._prefix), message)
        if not asked:
            raise ApiError(INTERNAL, "temporary, no worker listens to Redis")
        deadline = self._clock.monotonic() + ANSWERED_WITHIN_S
        counted: dict[str, int] = {}
        answered: set[str] = set()
        try:
            async for page in self._answers(key, deadline):
                for channel, clients in page.channels.items():
                    counted[channel] = counted.get(channel, 0) + clients
                if len(counted) > MAX_CHANNELS:
                    raise ApiError(LIMIT_EXCEEDED, f"pattern: more than {MAX_CHANNELS} channels, narrow the pattern")
                if page.last:
                    answered.add(page.worker)
                if len(answered) >= asked:
                    return counted
        finally:
            self._forget(key)
        raise ApiError(
            INTERNAL,
            f"temporary, {len(answered)} of {asked} workers answered within {ANSWERED_WITHIN_S:g} s",
        )

    async def _answers(self, key: bytes, deadline: float) -> AsyncIterator[SurveyPage]:
        """Pages as they come, until the deadline. Raises BrokerError."""
        while True:
            popped: Any = await self._reads.submit("LPOP", key, PAGES)
            for payload in popped or ():
                try:
                    yield _page.decode(payload)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    get_logger().warning("survey answer not understood", reason=str(error))
            if self._clock.monotonic() >= deadline:
                return
            if not popped:
                await asyncio.sleep(POLL_S)

    def _forget(self, key: bytes) -> None:
        try:
            self._writes.submit("UNLINK", key)
        except BrokerError as error:
            get_logger().debug("survey not deleted, it expires", reason=str(error))


async def _pieces(counted: dict[str, int]) -> Pieces:
    left = iter(counted.items())
    start = b'{"channels":{'
    while some := {channel: ChannelInfo(clients) for channel, clients in islice(left, PAGE)}:
        yield start + encode(some)[1:-1]
        start = b","
    yield (start if start != b"," else b"") + b"}}"


def channels_method(surveys: Surveys) -> Method[ChannelsRequest]:
    """`channels`."""
    return Method(
        "channels",
        "Channels that have subscribers, and how many",
        ChannelsRequest,
        ChannelsResult,
        surveys.channels,
        example='{"pattern": "chat:*"}',
        streams=True,
    )
