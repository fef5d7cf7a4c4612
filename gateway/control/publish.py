"""`publish` and `broadcast`: one publication to everyone who is subscribed to a channel, on every node.

On channels with history it goes through the channel's log and has a position afterwards; elsewhere, and with
`skip_history`, it is a plain PUBLISH, at most once.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta

from gateway.broker import ChannelLog, CommandQueue, Published
from gateway.config import Config, Namespace
from gateway.control.answers import ApiError
from gateway.control.fields import Base64Field, ChannelField, DataField, Rooms, check_size, encode, json_field
from gateway.control.methods import Method, of_broker
from gateway.errors import BrokerError
from protocol.codes import BAD_REQUEST, NOT_AVAILABLE
from protocol.redis_contract import Metadata, encode_envelope, publish_channel

MAX_CHANNELS: Final = 1000
"""Channels of one broadcast."""
WAVE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of one broadcast that wait for Redis at once."""
ENVELOPE_BYTES: Final = 128
"""Room for what stands before the metadata and data of an envelope: version, offset and epoch."""
MAX_KEY_LENGTH: Final = 255
MAX_VERSION: Final = 2**53 - 1
"""Redis scripts count in floating-point numbers, which are exact up to here."""


class _Publication(msgspec.Struct, kw_only=True):
    """What both methods take. Fields that are not named here are ignored: a newer client library may send them."""

    data: DataField = UNSET
    b64data: Base64Field = ""
    tags: Annotated[dict[str, str], Meta(description="Small texts beside the data; subscribers see them")] = {}
    skip_history: Annotated[bool, Meta(description="Do not log it, although the channel has history")] = False
    idempotency_key: Annotated[
        str,
        Meta(
            max_length=MAX_KEY_LENGTH,
            description="A channel takes one publication with it in five minutes. History only",
        ),
    ] = ""
    delta: Annotated[bool, Meta(description="Accepted and without effect")] = False
    version: Annotated[
        int, Meta(ge=0, le=MAX_VERSION, description="Above 0: taken only if above the channel's. History only")
    ] = 0
    version_epoch: Annotated[
        str, Meta(max_length=MAX_KEY_LENGTH, description="Versions compare only within one epoch")
    ] = ""


class PublishRequest(_Publication, kw_only=True):
    """A publication for one channel."""

    channel: ChannelField = ""


class BroadcastRequest(_Publication, kw_only=True):
    """The same publication for many channels."""

    channels: Annotated[list[str], Meta(description=f"Names of channels, at most {MAX_CHANNELS}")] = []


class PublishResult(msgspec.Struct, omit_defaults=True):
    """Position of the publication, on channels with history."""

    offset: int = 0
    epoch: str = ""


class ApiErrorBody(msgspec.Struct):
    """What is wrong with a call."""

    code: int
    message: str


class BroadcastResponse(msgspec.Struct, omit_defaults=True):
    """What became of the publication on one channel."""

    result: PublishResult | None = None
    error: ApiErrorBody | None = None


class BroadcastResult(msgspec.Struct):
    """One response for each channel, in their order."""

    responses: list[BroadcastResponse]


class Publishing:
    """Publishes to channels of every kind."""

    def __init__(self, config: Config, queue: CommandQueue, log: ChannelLog) -> None:
        self._prefix = config.redis.prefix
        self._max_bytes = config.limits.publication_bytes
        self._rooms = Rooms.of(config)
        self._queue = queue
        self._log = log

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Raises ApiError, BrokerError."""
        rules = self._rooms.rules(request.channel)
        return _result(await self._submit(request.channel, rules, request, self._data(request)))

    async def broadcast(self, request: BroadcastRequest) -> BroadcastResult:
        """Every channel has a result or an error of its own. Raises ApiError for what is wrong with all of them."""
        if not request.channels:
            raise ApiError(BAD_REQUEST, "channels: is missing")
        if len(request.channels) > MAX_CHANNELS:
            raise ApiError(BAD_REQUEST, f"channels: {len(request.channels)} are given, {MAX_CHANNELS} are allowed")
        data = self._data(request)
        wave = max(1, WAVE_BYTES // (len(data) + ENVELOPE_BYTES))
        responses: list[BroadcastResponse] = []
        for start in range(0, len(request.channels), wave):
            channels = request.channels[start : start + wave]
            # All are given to the queue before the first answer is waited for.
            sent = [self._try_submit(channel, request, data) for channel in channels]
            responses += [await _response(future) for future in sent]
        return BroadcastResult(responses)

    def _try_submit(
        self, channel: str, request: _Publication, data: bytes
    ) -> asyncio.Future[Published] | asyncio.Future[int] | ApiError:
        try:
            return self._submit(channel, self._rooms.rules(channel), request, data)
        except ApiError as problem:
            return problem
        except BrokerError as error:
            return of_broker(error)

    def _submit(
        self, channel: str, rules: Namespace, request: _Publication, data: bytes
    ) -> asyncio.Future[Published] | asyncio.Future[int]:
        """Raises ApiError (107, 108) and BrokerBusy."""
        metadata = Metadata(tags=request.tags)
        if rules.has_history and not request.skip_history:
            # Checked before it is logged: what workers do not take would be a hole that no reading fills.
            check_size("data", len(data) + len(encode(metadata)) + ENVELOPE_BYTES, self._max_bytes)
            return self._log.append(
                channel,
                data,
                metadata,
                size=rules.history_size,
                ttl_s=rules.history_ttl_s,
                key=request.idempotency_key,
                version=request.version,
                version_epoch=request.version_epoch,
            )
        for name in ("idempotency_key", "version", "version_epoch"):
            if getattr(request, name):  # Better refused than ignored: the caller relies on it.
                why = "cannot go with skip_history" if rules.has_history else "needs a channel with history"
                raise ApiError(NOT_AVAILABLE, f"{name}: {why}")
        payload = encode_envelope(data, metadata) if request.tags else data
        check_size("data", len(payload), self._max_bytes)
        return self._queue.publish(publish_channel(self._prefix, channel), payload)

    def _data(self, request: _Publication) -> bytes:
        """The data on one line. Raises ApiError (107)."""
        data = json_field("data", request.data, request.b64data)
        if data is None:
            raise ApiError(BAD_REQUEST, "data: is missing")
        if request.version_epoch and not request.version:
            raise ApiError(BAD_REQUEST, "version_epoch: needs a version")
        return data


async def _response(sent: asyncio.Future[Published] | asyncio.Future[int] | ApiError) -> BroadcastResponse:
    try:
        if isinstance(sent, ApiError):
            raise sent
        return BroadcastResponse(result=_result(await sent))
    except BrokerError as error:
        problem = of_broker(error)
    except ApiError as error:
        problem = error
    return BroadcastResponse(error=ApiErrorBody(problem.code, problem.message))


def _result(published: Published | int) -> PublishResult:
    if isinstance(published, int):
        return PublishResult()
    return PublishResult(offset=published.position.offset, epoch=published.position.epoch)


def publish_methods(
    config: Config, queue: CommandQueue, log: ChannelLog
) -> tuple[Method[PublishRequest], Method[BroadcastRequest]]:
    """`publish` and `broadcast`."""
    publishing = Publishing(config, queue, log)
    length = config.limits.channel_length
    return (
        Method(
            "publish",
            "Publish to a channel",
            PublishRequest,
            PublishResult,
            publishing.publish,
            example='{"channel": "news", "data": {"text": "hello"}}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
        ),
        Method(
            "broadcast",
            "Publish the same to many channels",
            BroadcastRequest,
            BroadcastResult,
            publishing.broadcast,
            example='{"channels": ["#42", "#43"], "data": {"text": "hello"}}',
            channels=lambda request: request.channels,
            max_channel_length=length,
        ),
    )
