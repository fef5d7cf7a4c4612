"""The API's part of the OpenAPI document, from the structs of its methods: what is decoded is what is described."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, Protocol

import msgspec
from fastapi import FastAPI

from gateway.control.keys import KEY_HEADER
from gateway.control.publish import ApiErrorBody

REF: Final = "#/components/schemas/{name}"


class Operation(Protocol):
    """What there is to describe about a method."""

    @property
    def request(self) -> type[msgspec.Struct]: ...
    @property
    def result(self) -> type[msgspec.Struct]: ...
    @property
    def example(self) -> str: ...


def describe(operation: Operation, *, wrapped: bool) -> dict[str, Any]:
    """The operation for OpenAPI: request body and answer. `wrapped`: the answer is `{"result": …}`."""
    result = _reference(operation.result)
    if wrapped:
        result = {"type": "object", "properties": {"result": result}, "required": ["result"]}
    failure = {"type": "object", "properties": {"error": _reference(ApiErrorBody)}, "required": ["error"]}
    request = {"schema": _reference(operation.request), "example": json.loads(operation.example)}
    return {
        "requestBody": {"required": True, "content": {"application/json": request}},
        "responses": {
            "200": {
                "description": "The result, or what is wrong with the call",
                "content": {"application/json": {"schema": {"oneOf": [result, failure]}}},
            },
            "401": {"description": f"No valid key in the header {KEY_HEADER}"},
            "413": {"description": "The body is too large"},
        },
        "security": [{"apiKey": []}],
    }


def complete(app: FastAPI, operations: Iterable[Operation]) -> None:
    """Add the schemas and the API key to the document of `app`: neither comes from a FastAPI dependency."""
    build = app.openapi
    structs = [ApiErrorBody, *(each for operation in operations for each in (operation.request, operation.result))]
    _, schemas = msgspec.json.schema_components(structs, ref_template=REF)

    def openapi() -> dict[str, Any]:
        document = build()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {"apiKey": {"type": "apiKey", "in": "header", "name": KEY_HEADER}}
        components.setdefault("schemas", {}).update(schemas)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _reference(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": REF.format(name=struct.__name__)}
