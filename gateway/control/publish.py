"""`publish` and `broadcast`: a publication to everyone who is subscribed to a channel, on every node.

`data` reaches clients byte for byte as the caller wrote it (numbers of any size, order of keys): it is cut out of the
request, checked, and never parsed into values of ours. In a channel with history it is logged and gets an offset.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from msgspec import UNSET

from gateway.broker import Published
from gateway.config import STREAM_NAMESPACE, Limits, Namespace
from gateway.control.answers import ApiError
from gateway.control.bus import Bus, broker_errors
from gateway.control.fields import Channels, json_field, namespace_of
from gateway.control.methods import Method
from gateway.publisher.messages import ENVELOPE_BYTES
from protocol.codes import BAD_REQUEST, LIMIT_EXCEEDED, NOT_AVAILABLE
from protocol.commands import Data
from protocol.redis_contract import Metadata, encode_envelope

MAX_CHANNELS: Final = 1000
"""Channels in one broadcast."""
WAVE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of one broadcast that wait for Redis at once: well below what its queue takes."""
MAX_KEY: Final = 512
"""Characters in an idempotency key, and in the epoch of a version."""


class _Payload(msgspec.Struct):
    data: Data = UNSET
    b64data: str = ""
    tags: dict[str, str] = {}
    skip_history: bool = False
    idempotency_key: str = ""
    delta: bool = False
    version: int = 0
    version_epoch: str = ""


class PublishRequest(_Payload):
    """Fields that are not named here are ignored, as a newer client library may send them."""

    channel: str = ""


class BroadcastRequest(_Payload):
    """The same publication to several channels."""

    channels: list[str] = []


class PublishResult(msgspec.Struct, omit_defaults=True):
    """Position of the publication, for channels with history. With an idempotency key that was used: of the first."""

    offset: int = 0
    epoch: str = ""


class CallError(msgspec.Struct):
    code: int
    message: str


class Response(msgspec.Struct, omit_defaults=True):
    """What became of the publication to one channel."""

    error: CallError | None = None
    result: PublishResult | None = None


class BroadcastResult(msgspec.Struct):
    """One response for each channel, in their order."""

    responses: list[Response]


class Publishing:
    """Checks publications and hands them to Redis."""

    def __init__(self, bus: Bus, channels: Channels, limits: Limits, *, streams: bool = False) -> None:
        """`streams`: the channels of one namespace are token streams, and only their producers publish there."""
        self._streams = streams
        self._bus = bus
        self._channels = channels
        self._max_bytes = limits.publication_bytes

    def data_of(self, request: _Payload) -> bytes:
        """What is published. Raises ApiError (107)."""
        data = json_field("data", request.data, request.b64data)
        if data is UNSET:
            raise ApiError(BAD_REQUEST, "data: is missing")
        for name, text in (("idempotency_key", request.idempotency_key), ("version_epoch", request.version_epoch)):
            if len(text) > MAX_KEY:
                raise ApiError(BAD_REQUEST, f"{name}: has {len(text)} characters, {MAX_KEY} are allowed")
        if not 0 <= request.version < 2**53:
            raise ApiError(BAD_REQUEST, "version: must be from 0 to 2^53 - 1")
        return bytes(data)

    def send(self, channel: str, data: bytes, request: _Payload) -> asyncio.Future[Any]:
        """Queue one publication; the future gives `Published` or a number. Raises ApiError, the future BrokerError."""
        rules = self._channels.rules(channel)
        if self._streams and namespace_of(channel) == STREAM_NAMESPACE:
            raise ApiError(NOT_AVAILABLE, "channel: is a token stream, and only its producer publishes there")
        kept = rules.has_history and not request.skip_history
        skipped = rules.has_history and not kept
        metadata = Metadata(tags=request.tags, skip_history=skipped)
        payload = encode_envelope(data, metadata) if not kept and (request.tags or skipped) else data
        # What workers do not take must not be logged: subscribers would have a hole instead of it.
        size = len(payload) + (len(msgspec.json.encode(request.tags)) + ENVELOPE_BYTES if kept else 0)
        if size > self._max_bytes:
            raise ApiError(BAD_REQUEST, f"data: makes {size} bytes, limits.publication_bytes allows {self._max_bytes}")
        with broker_errors():
            if kept:
                return self._append(channel, data, request, rules)
            for name, given in (("idempotency_key", request.idempotency_key), ("version", request.version)):
                if given:
                    # Better refused than ignored: the caller relies on it.
                    raise ApiError(NOT_AVAILABLE, f"{name}: needs a channel with history, and skip_history not set")
            return self._bus.publish(channel, payload)

    def _append(self, channel: str, data: bytes, request: _Payload, rules: Namespace) -> asyncio.Future[Published]:
        return self._bus.log.append(
            channel,
            data,
            Metadata(tags=request.tags),
            size=rules.history_size,
            ttl_s=rules.history_ttl_s,
            key=request.idempotency_key,
            version=request.version,
            version_epoch=request.version_epoch,
        )


def publish_method(publishing: Publishing) -> Method[PublishRequest]:
    """`publish`."""

    async def call(request: PublishRequest) -> PublishResult:
        sent = publishing.send(request.channel, publishing.data_of(request), request)
        return await _result(sent)

    return Method(
        "publish",
        "Publish to a channel",
        PublishRequest,
        PublishResult,
        call,
        channels=lambda request: (request.channel,),
    )


def broadcast_method(publishing: Publishing) -> Method[BroadcastRequest]:
    """`broadcast`."""

    async def call(request: BroadcastRequest) -> BroadcastResult:
        if not request.channels:
            raise ApiError(BAD_REQUEST, "channels: is missing or empty")
        if len(request.channels) > MAX_CHANNELS:
            raise ApiError(LIMIT_EXCEEDED, f"channels: {len(request.channels)}, at most {MAX_CHANNELS} are allowed")
        data = publishing.data_of(request)
        wave = max(1, WAVE_BYTES // (len(data) + ENVELOPE_BYTES))
        responses: list[Response] = []
        for start in range(0, len(request.channels), wave):
            sent: list[asyncio.Future[Any] | ApiError] = []
            for channel in request.channels[start : start + wave]:
                try:
                    sent.append(publishing.send(channel, data, request))
                except ApiError as problem:
                    sent.append(problem)
            responses += [await _response(each) for each in sent]
        return BroadcastResult(responses)

    return Method(
        "broadcast",
        "Publish to several channels",
        BroadcastRequest,
        BroadcastResult,
        call,
        channels=lambda request: request.channels,
        body_bytes=MAX_CHANNELS * 1024,
    )


async def _response(sent: asyncio.Future[Any] | ApiError) -> Response:
    try:
        if isinstance(sent, ApiError):
            raise sent
        return Response(result=await _result(sent))
    except ApiError as problem:
        return Response(error=CallError(problem.code, problem.message))


async def _result(sent: asyncio.Future[Any]) -> PublishResult:
    with broker_errors():
        done = await sent
    if not isinstance(done, Published):
        return PublishResult()
    return PublishResult(offset=done.position.offset, epoch=done.position.epoch)
