"""The methods of the HTTP API: each is a request, a result, and a coroutine from one to the other.

To add a method, write a module like `publish` that returns a `Method`, and put it into the list in `app`. Routing,
keys, limits, error modes and the OpenAPI description come by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from gateway.control.answers import ApiError
from protocol.codes import BAD_REQUEST
from protocol.encodings.json import json_line
from protocol.errors import DecodeError

Request = TypeVar("Request", bound=msgspec.Struct)
Call = Callable[[Request], Awaitable[msgspec.Struct]]

_PLACE: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<field>.*)`$", re.DOTALL)


class Method(Generic[Request]):
    """One method: `POST /api/<name>` with a JSON object."""

    def __init__(
        self, name: str, summary: str, request: type[Request], result: type[msgspec.Struct], call: Call[Request]
    ) -> None:
        self.name = name
        self.summary = summary
        self.request = request
        self.result = result
        self._call = call
        self._decoder = msgspec.json.Decoder(request)

    async def answer(self, body: bytes) -> bytes:
        """The result for a request, both as JSON. Raises ApiError; 107 for a body that is no such request."""
        return msgspec.json.encode(await self._call(self._decode(body)))

    def _decode(self, body: bytes) -> Request:
        if not body:
            raise ApiError(BAD_REQUEST, "body: is empty, a JSON object is expected")
        try:
            # A Raw field is not looked into by the decoder: decode first, so that the whole body is UTF-8.
            return self._decoder.decode(body if body.isascii() else body.decode())
        except msgspec.ValidationError as error:
            raise ApiError(BAD_REQUEST, _in_words(error)) from error
        except UnicodeDecodeError as error:
            raise ApiError(BAD_REQUEST, f"body: is not UTF-8 (byte {error.start})") from error
        except msgspec.DecodeError as error:
            raise ApiError(BAD_REQUEST, f"body: {_why_no_json(body) or error}") from error
        except RecursionError as error:
            raise ApiError(BAD_REQUEST, "body: is nested too deeply") from error

    def describe(self) -> dict[str, Any]:
        """The operation for OpenAPI: request body and answer."""
        return {
            "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(self.request)}}},
            "responses": {
                "200": {
                    "description": "The result, or what is wrong with the call",
                    "content": {
                        "application/json": {
                            "schema": {
                                "oneOf": [
                                    {"type": "object", "properties": {"result": _schema(self.result)}},
                                    {"type": "object", "properties": {"error": ERROR_SCHEMA}},
                                ]
                            }
                        }
                    },
                },
                "401": {"description": "No valid key in the header X-API-Key"},
                "413": {"description": "The body is too large"},
            },
        }


ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}
"""JSON Schema of an error."""


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


def _schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON Schema of a flat struct, inline."""
    schema = msgspec.json.schema(struct)
    found: dict[str, Any] = schema["$defs"][struct.__name__]
    return found
