"""`publish`: one publication to everyone who is subscribed to a channel, on every node.

`data` reaches clients byte for byte as the caller wrote it (numbers of any size, order of keys): it is cut out of the
request, checked, and never parsed into values of ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from msgspec import UNSET

from gateway.config import Limits, Namespace
from gateway.control.answers import ApiError
from gateway.control.methods import Method
from gateway.errors import BrokerBusy, BrokerRefused, BrokerUnavailable
from protocol.channel import parse_channel
from protocol.codes import BAD_REQUEST, INTERNAL, NOT_AVAILABLE, TOO_MANY_REQUESTS, UNKNOWN_CHANNEL
from protocol.commands import Data
from protocol.encodings.json import json_line
from protocol.errors import ChannelError, DecodeError
from protocol.redis_contract import Metadata, encode_envelope

Publish = Callable[[str, bytes], Awaitable[int]]
"""Sends a payload of the Redis contract to a channel; gives the number of Redis subscribers. Raises BrokerError."""


class PublishRequest(msgspec.Struct):
    """Fields that are not named here are ignored, as a newer client library may send them."""

    channel: str = ""
    data: Data = UNSET
    b64data: str = ""
    tags: dict[str, str] = {}
    skip_history: bool = False
    idempotency_key: str = ""
    delta: bool = False
    version: int = 0
    version_epoch: str = ""


class PublishResult(msgspec.Struct, omit_defaults=True):
    """Position of the publication, for channels with history."""

    offset: int = 0
    epoch: str = ""


def publish_method(publish: Publish, namespaces: Mapping[str, Namespace], limits: Limits) -> Method[PublishRequest]:
    """The method, publishing through `publish`."""

    async def call(request: PublishRequest) -> PublishResult:
        check_channel(request.channel, namespaces, limits.channel_length)
        payload = _payload(request, limits.publication_bytes)
        try:
            await publish(request.channel, payload)
        except BrokerUnavailable as error:
            raise ApiError(INTERNAL, "temporary, Redis cannot be reached; the message may or may not be out") from error
        except BrokerBusy as error:
            raise ApiError(TOO_MANY_REQUESTS, f"temporary, {error}") from error
        except BrokerRefused as error:
            raise ApiError(INTERNAL, f"Redis refused: {error}") from error
        return PublishResult()

    return Method("publish", "Publish to a channel", PublishRequest, PublishResult, call)


def check_channel(channel: str, namespaces: Mapping[str, Namespace], max_length: int) -> None:
    """Raises ApiError: 107 for a name that cannot exist, 102 for one in a namespace that is not configured."""
    if not channel:
        raise ApiError(BAD_REQUEST, "channel: is missing")
    try:
        name = parse_channel(channel, max_length)
    except ChannelError as error:
        raise ApiError(BAD_REQUEST, f"channel: {error}") from error
    if name.namespace and name.namespace not in namespaces:
        raise ApiError(UNKNOWN_CHANNEL, f'no namespace "{name.namespace}" is configured')


def _payload(request: PublishRequest, max_bytes: int) -> bytes:
    """What goes to Redis. Raises ApiError."""
    if request.b64data:
        raise ApiError(BAD_REQUEST, "b64data: binary payloads are not supported, send JSON in data")
    if request.data is UNSET:
        raise ApiError(BAD_REQUEST, "data: is missing")
    for name, given in (("idempotency_key", request.idempotency_key), ("version", request.version)):
        if given:
            # Better refused than ignored: the caller relies on it.
            raise ApiError(NOT_AVAILABLE, f"{name}: needs a channel with history")
    try:
        data = json_line(bytes(request.data))
    except DecodeError as error:
        raise ApiError(BAD_REQUEST, f"data: {error}") from error
    payload = encode_envelope(data, Metadata(tags=request.tags)) if request.tags else data
    if len(payload) > max_bytes:
        raise ApiError(BAD_REQUEST, f"data: makes {len(payload)} bytes, limits.publication_bytes allows {max_bytes}")
    return payload
