"""The methods of the HTTP API: each is a request, a result, and a coroutine from one to the other.

To add a method, write a module like `publish` that returns a `Method`, and put it into the list in `app`. Routing,
keys, limits, error modes and the OpenAPI description come by themselves.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from gateway.config import ApiKey
from gateway.control.answers import ApiError
from gateway.control.fields import namespace_of
from protocol.codes import BAD_REQUEST, PERMISSION_DENIED
from protocol.encodings.json import json_line
from protocol.errors import DecodeError

Request = TypeVar("Request", bound=msgspec.Struct)

Chunks = AsyncIterator[bytes]
"""A result as JSON that is made while it is sent, because it may be too large to be held."""
Call = Callable[[Request], Awaitable[msgspec.Struct | Chunks]]

_PLACE: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<field>.*)`$", re.DOTALL)


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
        channels: Callable[[Request], Sequence[str]] | None = None,
        body_bytes: int = 0,
        top_level: bool = False,
        streams: bool = False,
    ) -> None:
        """`channels` that a request names; None = it concerns more than channels. `body_bytes`: what a body may have
        beside a payload and BODY_RESERVE_BYTES. `top_level`: the answer is the result itself, without `result`.
        `streams`: the result may come as chunks."""
        self.name = name
        self.summary = summary
        self.request = request
        self.result = result
        self.body_bytes = body_bytes
        self.top_level = top_level
        self.streams = streams
        self._call = call
        self._channels = channels
        self._decoder = msgspec.json.Decoder(request)

    async def answer(self, body: bytes, key: ApiKey | None) -> bytes | Chunks:
        """The result for a request, both as JSON. `key`: what limits the caller; None = nothing.

        Raises ApiError; 107 for a body that is no such request, 103 for what the key does not allow.
        """
        if key is not None and key.methods and self.name not in key.methods:
            raise ApiError(PERMISSION_DENIED, f'the key "{key.name}" is not for the method {self.name}')
        request = self.decode(body)
        if key is not None and key.namespaces:
            self._check_namespaces(request, key)
        result = await self._call(request)
        return msgspec.json.encode(result) if isinstance(result, msgspec.Struct) else result

    def _check_namespaces(self, request: Request, key: ApiKey) -> None:
        if self._channels is None:
            raise ApiError(PERMISSION_DENIED, f'the key "{key.name}" is limited to namespaces, {self.name} is not')
        for channel in self._channels(request):
            namespace = namespace_of(channel)
            if namespace and namespace not in key.namespaces:
                raise ApiError(PERMISSION_DENIED, f'the key "{key.name}" is not for the namespace "{namespace}"')

    def decode(self, body: bytes) -> Request:
        """The request that a body is. Raises ApiError (107)."""
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
        """The operation for OpenAPI: request body and answer. Schemas are named, see `schemas`."""
        result = reference(self.result)
        answer = result if self.top_level else {"type": "object", "properties": {"result": result}}
        return {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": reference(self.request)}},
            },
            "responses": {
                "200": {
                    "description": "The result, or what is wrong with the call",
                    "content": {
                        "application/json": {
                            "schema": {
                                "oneOf": [answer, {"type": "object", "properties": {"error": ERROR_SCHEMA}}],
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
_TEMPLATE: Final = "#/components/schemas/{name}"


def reference(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """How the schema of a struct is referred to."""
    return {"$ref": _TEMPLATE.format(name=struct.__name__)}


def schemas(methods: Sequence[Method[Any]]) -> dict[str, Any]:
    """JSON Schemas of all requests and results, by the names that `reference` uses."""
    types = [each for method in methods for each in (method.request, method.result)]
    _, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    return dict(components)


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
