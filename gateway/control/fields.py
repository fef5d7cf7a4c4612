"""Fields that several requests have: the channel, and JSON that may also come in base64."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from typing import Final

from msgspec import UNSET, Raw

from gateway.config import Namespace
from gateway.control.answers import ApiError
from protocol.channel import parse_channel
from protocol.codes import BAD_REQUEST, UNKNOWN_CHANNEL
from protocol.commands import Data
from protocol.encodings.binary import as_document
from protocol.encodings.json import json_line
from protocol.errors import ChannelError, DecodeError
from protocol.position import Position

MAX_CHANNEL_LENGTH: Final = 1024
"""Upper bound of limits.channel_length: what is longer is no channel in any configuration."""
FAR_S: Final = 100 * 366 * 86_400
"""No time that means something lies further ahead. (A time in milliseconds does, and Redis takes no end at 1e300.)"""


class Channels:
    """Which channels there can be."""

    def __init__(self, namespaces: Mapping[str, Namespace], max_length: int) -> None:
        self._namespaces = namespaces
        self._max_length = max_length

    def rules(self, channel: str) -> Namespace:
        """The rules of a channel. Raises ApiError: 107 for a name that cannot be, 102 for an unknown namespace."""
        if not channel:
            raise ApiError(BAD_REQUEST, "channel: is missing")
        try:
            name = parse_channel(channel, self._max_length)
        except ChannelError as error:
            raise ApiError(BAD_REQUEST, f"channel: {error}") from error
        rules = self._namespaces.get(name.namespace or "default")
        if rules is None:
            raise ApiError(UNKNOWN_CHANNEL, f'no namespace "{name.namespace}" is configured')
        return rules


def namespace_of(channel: str) -> str:
    """The namespace that a channel belongs to; "" for a name that cannot be.

    With the longest names that any configuration allows: a name that is not looked at here must be refused later.
    """
    try:
        return parse_channel(channel, MAX_CHANNEL_LENGTH).namespace or "default"
    except ChannelError:
        return ""


def moment(name: str, seconds: float, *, now: float) -> float:
    """Seconds since 1970; 0 = not given. Raises ApiError (107)."""
    if not math.isfinite(seconds) or not 0 <= seconds <= now + FAR_S:
        raise ApiError(BAD_REQUEST, f"{name}: is not a time in seconds since 1970")
    return seconds


def check_position(name: str, position: Position | None) -> None:
    """Raises ApiError (107)."""
    if position is not None and not 0 <= position.offset < 2**63:
        raise ApiError(BAD_REQUEST, f"{name}.offset: must be from 0 to 2^63 - 1")


def json_field(name: str, value: Data, encoded: str) -> Data:
    """A field that is JSON, or its twin `b64…` with JSON or binary data in base64; UNSET = neither is there.

    One line, so that it can travel; binary data in its JSON form. Raises ApiError (107).
    """
    if value is not UNSET and encoded:
        raise ApiError(BAD_REQUEST, f"b64{name}: is there together with {name}")
    try:
        if encoded:
            return Raw(as_document(binascii.a2b_base64(encoded, strict_mode=True)))
        return UNSET if value is UNSET else Raw(json_line(bytes(value)))
    except (DecodeError, ValueError) as error:
        what = f"b64{name}" if encoded else name
        raise ApiError(BAD_REQUEST, f"{what}: {error}") from error
