"""Fields that several requests have: channels, JSON as it is or in base64, times. Checked here, named in each error.

JSON reaches clients byte for byte as the caller wrote it (numbers of any size, order of keys): it is cut out of the
request, checked, and never parsed into values of ours.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw

from gateway.config import Config, Namespace
from gateway.control.answers import ApiError
from protocol.channel import parse_channel
from protocol.codes import BAD_REQUEST, UNKNOWN_CHANNEL
from protocol.commands import Data
from protocol.encodings.json import json_line
from protocol.errors import ChannelError, DecodeError
from protocol.position import Position

ChannelField = Annotated[str, Meta(description="Name of a channel")]
DataField = Annotated[Data, Meta(description="Any JSON value")]
Base64Field = Annotated[str, Meta(description="The same in base64, in place of it: the decoded bytes must be JSON")]
UserField = Annotated[str, Meta(description="Id of a user: all connections of that user")]
ClientField = Annotated[str, Meta(description="Id of one client; with user: only if it is that user's")]
SessionField = Annotated[str, Meta(description="Another name for client")]
ExpireField = Annotated[float, Meta(description="Seconds since 1970 UTC; 0 = never")]

FAR_S: Final = 100 * 366 * 86_400
"""No time that means something lies further ahead."""


class Rooms:
    """The channels that there can be, and the rules of each."""

    def __init__(self, namespaces: Mapping[str, Namespace], max_length: int) -> None:
        self._namespaces = namespaces
        self.max_length = max_length

    @classmethod
    def of(cls, config: Config) -> Rooms:
        return cls(config.namespaces, config.limits.channel_length)

    def rules(self, channel: str) -> Namespace:
        """Rules of a channel. Raises ApiError: 107 for a name that cannot exist, 102 for an unknown namespace."""
        if not channel:
            raise ApiError(BAD_REQUEST, "channel: is missing")
        try:
            namespace = parse_channel(channel, self.max_length).namespace
        except ChannelError as error:
            raise ApiError(BAD_REQUEST, f"channel: {error}") from error
        if (rules := self._namespaces.get(namespace or "default")) is None:
            raise ApiError(UNKNOWN_CHANNEL, f'no namespace "{namespace}" is configured')
        return rules


def json_field(name: str, plain: Data, encoded: str) -> bytes | None:
    """JSON on one line, from the field `name` or `b64<name>`; None = neither is given. Raises ApiError (107)."""
    if encoded:
        name, document = f"b64{name}", _decoded(name, encoded)
    elif isinstance(plain, Raw):
        document = bytes(plain)
    else:
        return None
    try:
        return json_line(document)
    except DecodeError as error:
        raise ApiError(BAD_REQUEST, f"{name}: {error}") from error


def _decoded(name: str, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(BAD_REQUEST, f"b64{name}: is not base64") from error


def raw_or_unset(document: bytes | None) -> Data:
    """As a field of a message."""
    return UNSET if document is None else Raw(document)


def check_time(name: str, time: float, *, now: float) -> None:
    """Raises ApiError (107) for what is no time."""
    if not math.isfinite(time) or not 0 <= time <= now + FAR_S:
        raise ApiError(BAD_REQUEST, f"{name}: is not a time in seconds since 1970")


def check_position(name: str, position: Position | None) -> None:
    """Raises ApiError (107)."""
    if position is not None and not 0 <= position.offset < 2**63:
        raise ApiError(BAD_REQUEST, f"{name}.offset: must be from 0 to 2^63 - 1")


def check_size(name: str, size: int, max_bytes: int) -> None:
    """Raises ApiError (107) for what would make a message that workers do not take."""
    if size > max_bytes:
        raise ApiError(BAD_REQUEST, f"{name}: makes {size} bytes, limits.publication_bytes allows {max_bytes}")


def encode(value: object) -> bytes:
    """JSON of a value of ours."""
    return msgspec.json.encode(value)
