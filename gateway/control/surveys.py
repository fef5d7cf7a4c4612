"""`channels`: which channels somebody is in, asked of every worker.

Theory of operation. The question goes out on the control channel; Redis says how many workers listen. Each pushes its
channels, in pages, to a list in Redis that belongs to this one question, and marks its last page. Workers that are gone
or hang do not mark theirs: then the answer is an error, never a part that looks like the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Final

import msgspec

from gateway.control.answers import ApiError
from gateway.control.bus import Bus, broker_errors
from gateway.control.methods import Chunks, Method
from gateway.errors import BrokerError
from protocol.codes import BAD_REQUEST, INTERNAL, LIMIT_EXCEEDED
from protocol.control_messages import Survey, decode_page
from protocol.errors import EnvelopeError
from protocol.redis_contract import survey_key

TIMEOUT_S: Final = 3.0
"""Time that the workers have to answer."""
LOOK_S: Final = 0.01
"""Time between two looks at the list."""
PAGES: Final = 20
"""Pages that are fetched at once."""
MAX_CHANNELS: Final = 100_000
"""Channels in one answer: they are summed up over the workers, and so in memory together."""
MAX_PATTERN: Final = 255
CHUNK: Final = 1000
"""Channels that are sent together."""


class ChannelsRequest(msgspec.Struct):
    """`pattern`: glob over the names (`*`, `?`, `[…]`); "" = all."""

    pattern: str = ""


class ChannelInfo(msgspec.Struct):
    num_clients: int


class ChannelsResult(msgspec.Struct):
    """Channel → how many are in it, on all workers."""

    channels: dict[str, ChannelInfo]


def channels_method(bus: Bus) -> Method[ChannelsRequest]:
    """`channels`."""

    async def call(request: ChannelsRequest) -> Chunks:
        if len(request.pattern) > MAX_PATTERN:
            raise ApiError(BAD_REQUEST, f"pattern: has more than {MAX_PATTERN} characters")
        return _as_json(await _ask(bus, request.pattern or "*"))

    return Method("channels", "Channels that somebody is in", ChannelsRequest, ChannelsResult, call, streams=True)


async def _ask(bus: Bus, pattern: str) -> dict[str, int]:
    key = survey_key(bus.prefix, os.urandom(12).hex())
    workers = await bus.tell(Survey(reply_to=key.decode(), pattern=pattern))
    found: dict[str, int] = {}
    answered = 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while answered < workers:
                with broker_errors():
                    pages = await bus.commands.submit("LPOP", key, PAGES)
                if not pages:
                    await asyncio.sleep(LOOK_S)
                for payload in pages or ():
                    answered += _take(payload, found)
    except TimeoutError as error:
        raise ApiError(INTERNAL, f"temporary, {answered} of {workers} workers have answered") from error
    finally:
        with contextlib.suppress(BrokerError):  # the workers let it expire
            bus.commands.submit("DEL", key)
    return found


def _take(payload: bytes, found: dict[str, int]) -> bool:
    """Add one page; whether it was the last of its worker."""
    try:
        page = decode_page(payload)
    except EnvelopeError as error:
        raise ApiError(INTERNAL, f"a worker has answered something else: {error}") from error
    for channel, clients in page.channels.items():
        found[channel] = found.get(channel, 0) + clients
    if len(found) > MAX_CHANNELS:
        raise ApiError(LIMIT_EXCEEDED, f"more than {MAX_CHANNELS} channels: ask with a narrower pattern")
    return page.last


async def _as_json(found: dict[str, int]) -> Chunks:
    yield b'{"channels":{'
    names = sorted(found)
    for start in range(0, len(names), CHUNK):
        part = {name: ChannelInfo(found[name]) for name in names[start : start + CHUNK]}
        yield (b"," if start else b"") + msgspec.json.encode(part)[1:-1]
    yield b"}}"
