"""The methods of the HTTP API: each is a request, a result, and a coroutine from one to the other.

To add a method, write a module like `revoke` that returns a `Method`, and put it into the list in `catalogue`. Routing,
keys, limits, error modes, batches, the OpenAPI description and `/docs` come by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from gateway.control.answers import ApiError
from gateway.control.keys import Scope
from gateway.control.streams import Pieces, Stream
from gateway.errors import BrokerBusy, BrokerError, BrokerUnavailable
from protocol.codes import BAD_REQUEST, INTERNAL, TOO_MANY_REQUESTS
from protocol.encodings.json import json_line
from protocol.errors import DecodeError

Request = TypeVar("Request", bound=msgspec.Struct)
Call = Callable[[Request], Awaitable[msgspec.Struct | Pieces]]

_PLACE: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<field>.*)`$", re.DOTALL)


class Nothing(msgspec.Struct):
    """An empty object."""


class Method(Generic[Request]):
    """One method: `POST /api/<name>` with a JSON object."""

    def __init__(
        self,
        name: str,
        summary: str,
        request: type[Request],
        result: type[msgspec.Struct],
        call: Call[Request],
        *,
        example: str,
        channels: Callable[[Request], Sequence[str]] | None = None,
        max_channel_length: int = 0,
        streams: bool = False,
    ) -> None:
        """`call` gives a `result`, or one as JSON in pieces (then `streams`). Raises ApiError, BrokerError.

        `channels`: those that a request names; None = it names none and concerns all of them. `example`: a request.
        """
        self.name = name
        self.summary = summary
        self.request = request
        self.result = result
        self.example = example
        self.streams = streams
        self._call = call
        self._channels = channels
        self._max_channel_length = max_channel_length
        self._decoder = msgspec.json.Decoder(request)

    def check_allowed(self, scope: Scope) -> None:
        """Raises ApiError (103) when the key may not call this at all."""
        scope.check_method(self.name, names_channels=self._channels is not None)

    async def answer(self, body: bytes, scope: Scope) -> bytes | Stream:
        """The result for a request, both as JSON. Raises ApiError; 107 for a body that is no such request."""
        self.check_allowed(scope)
        request = decode_body(self._decoder, body)
        if self._channels is not None:
            scope.check_channels(self._channels(request), self._max_channel_length)
        try:
            result = await self._call(request)
            return msgspec.json.encode(result) if isinstance(result, msgspec.Struct) else await Stream.begin(result)
        except BrokerError as error:
            raise of_broker(error) from error


def of_broker(error: BrokerError) -> ApiError:
    """What the caller is told when Redis does not do what it was asked."""
    if isinstance(error, BrokerUnavailable):
        return ApiError(INTERNAL, "temporary, Redis cannot be reached; what was asked for may or may not be done")
    if isinstance(error, BrokerBusy):
        return ApiError(TOO_MANY_REQUESTS, f"temporary, {error}")
    return ApiError(INTERNAL, f"Redis refused: {error}")


def decode_body(decoder: msgspec.json.Decoder[Request], body: bytes) -> Request:
    """The request that a body holds. Raises ApiError (107) with the field at fault."""
    if not body:
        raise ApiError(BAD_REQUEST, "body: is empty, a JSON object is expected")
    try:
        # A Raw field is not looked into by the decoder: decode first, so that the whole body is UTF-8.
        return decoder.decode(body if body.isascii() else body.decode())
    except msgspec.ValidationError as error:
        raise ApiError(BAD_REQUEST, _in_words(error)) from error
    except UnicodeDecodeError as error:
        raise ApiError(BAD_REQUEST, f"body: is not UTF-8 (byte {error.start})") from error
    except msgspec.DecodeError as error:
        raise ApiError(BAD_REQUEST, f"body: {_why_no_json(body) or error}") from error
    except RecursionError as error:
        raise ApiError(BAD_REQUEST, "body: is nested too deeply") from error


def _in_words(error: msgspec.ValidationError) -> str:
    """`Expected `str`, got `int` - at `$.channel`` with the field first, as people look for it."""
    place = _PLACE.match(str(error))
    field, what = (place["field"], place["what"]) if place else ("body", str(error))
    return f"{field or 'body'}: {what[:1].lower()}{what[1:]}".replace("`", "")


def _why_no_json(body: bytes) -> str:
    """The place of a mistake by line and column, which the struct decoder does not give."""
    try:
        json_line(body)
    except DecodeError as error:
        return str(error)
    return ""
