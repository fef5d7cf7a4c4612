"""`POST /api/<method>`: key, body, method, answer.

The order matters: nothing of a body is read before the key is right, and no more of it than its limit.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from gateway.config import ApiKey
from gateway.control import answers
from gateway.control.answers import ApiError, RequestError
from gateway.control.guard import HostRules, check_same_origin
from gateway.control.methods import Method
from protocol.codes import BAD_REQUEST, METHOD_NOT_FOUND, UNAUTHORIZED

KEY_HEADER: Final = "X-API-Key"
MODE_HEADER: Final = "X-Centrifugo-Error-Mode"
BODY_RESERVE_BYTES: Final = 4096
"""Room in a body for everything but the payload."""


class KeyCheck:
    """Lets in whoever sends one of the keys."""

    def __init__(self, keys: Sequence[str], limited: Sequence[ApiKey], *, insecure: bool, hosts: HostRules) -> None:
        """`limited`: keys for some things. `insecure`: without any key, everyone but foreign web pages may call."""
        self._keys: list[tuple[bytes, ApiKey | None]] = [(key.encode(), None) for key in keys]
        self._keys += [(key.key.encode(), key) for key in limited]
        self._insecure = insecure
        self._hosts = hosts

    def __call__(self, request: Request) -> ApiKey | None:
        """What limits the caller; None = nothing. Raises RequestError."""
        given = request.headers.get(KEY_HEADER)
        if not self._keys:
            if self._insecure:
                check_same_origin(request, self._hosts)
                return None
            raise _no_entry("no API key is configured, so the API refuses every call: set control.api_keys")
        if given is None:
            raise _no_entry(f"the header {KEY_HEADER} is missing")
        # Every key is compared, each in constant time: how long it takes says nothing about them.
        sent = given.encode("latin-1")
        matches = [(hmac.compare_digest(sent, key), limits) for key, limits in self._keys]
        found = [limits for matched, limits in matches if matched]
        if not found:
            raise _no_entry(f"the key in the header {KEY_HEADER} is not one of control.api_keys or control.keys")
        return None if None in found else found[0]


def api_router(methods: Iterable[Method[Any]], check_key: KeyCheck, *, max_payload_bytes: int) -> APIRouter:
    """A route for each method, and one that tells authenticated callers that there is no such method."""
    router = APIRouter(prefix="/api", tags=["api"])
    for method in methods:
        router.add_api_route(
            f"/{method.name}",
            _endpoint(method, check_key, max_payload_bytes + BODY_RESERVE_BYTES + method.body_bytes),
            methods=["POST"],
            name=method.name,
            summary=method.summary,
            response_class=Response,
            openapi_extra=method.describe() | {"security": [{"apiKey": []}]},
        )

    @router.post("/{name}", include_in_schema=False)
    async def unknown(request: Request, name: str) -> Response:
        try:
            check_key(request)
        except RequestError as problem:
            return answers.refusal(problem)
        return answers.error(ApiError(METHOD_NOT_FOUND, name), transport=_transport(request))

    return router


def _endpoint(method: Method[Any], check_key: KeyCheck, max_bytes: int) -> Any:
    async def endpoint(request: Request) -> Response:
        try:
            key = check_key(request)
            body = await read_body(request, max_bytes)
            return answers.result(await method.answer(body, key), top_level=method.top_level)
        except RequestError as problem:
            return answers.refusal(problem)
        except ApiError as problem:
            return answers.error(problem, transport=_transport(request))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it

    return endpoint


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, read no further than `max_bytes`. Raises RequestError (413)."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _transport(request: Request) -> bool:
    return request.headers.get(MODE_HEADER, "").lower() == "transport"


def _no_entry(message: str) -> RequestError:
    return RequestError(401, UNAUTHORIZED, message, {"www-authenticate": f'ApiKey header="{KEY_HEADER}"'})


def _too_large(max_bytes: int) -> RequestError:
    message = f"the body is larger than {max_bytes} bytes"
    return RequestError(413, BAD_REQUEST, message, {"connection": "close"})
