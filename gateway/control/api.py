"""`POST /api/<method>`: key, body, method, answer.

The order matters: nothing of a body is read before the key is right, and no more of it than its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from gateway.control import answers
from gateway.control.answers import ApiError, RequestError
from gateway.control.batch import Batch
from gateway.control.keys import KeyRing
from gateway.control.methods import Method
from gateway.control.openapi import describe
from gateway.control.streams import Stream, StreamedAnswer, wrapped
from protocol.codes import BAD_REQUEST, METHOD_NOT_FOUND

MODE_HEADER: Final = "X-Centrifugo-Error-Mode"
BODY_RESERVE_BYTES: Final = 4096
"""Room in a body for everything but the payload."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Body of a batch or a broadcast, at most, where that is more than that of the others."""


def api_router(methods: Sequence[Method[Any]], batch: Batch, keys: KeyRing, *, max_payload_bytes: int) -> APIRouter:
    """A route for each method, and one that tells authenticated callers that there is no such method."""
    router = APIRouter(prefix="/api", tags=["api"])
    operations: list[Method[Any] | Batch] = [*methods, batch]
    for method in operations:
        max_bytes = max_payload_bytes + BODY_RESERVE_BYTES
        if method.name in ("batch", "broadcast"):
            max_bytes = max(BATCH_BYTES, max_bytes)
        router.add_api_route(
            f"/{method.name}",
            _endpoint(method, keys, max_bytes),
            methods=["POST"],
            name=method.name,
            summary=method.summary,
            response_class=Response,
            openapi_extra=describe(method, wrapped=method is not batch),
        )

    @router.post("/{name}", include_in_schema=False)
    async def unknown(request: Request, name: str) -> Response:
        try:
            keys.scope_of(request)
        except RequestError as problem:
            return answers.refusal(problem)
        return answers.error(ApiError(METHOD_NOT_FOUND, name), transport=_transport(request))

    return router


def _endpoint(method: Method[Any] | Batch, keys: KeyRing, max_bytes: int) -> Any:
    async def endpoint(request: Request) -> Response:
        try:
            scope = keys.scope_of(request)
            method.check_allowed(scope)
            body = await read_body(request, max_bytes)
            result = await method.answer(body, scope)
        except RequestError as problem:
            return answers.refusal(problem)
        except ApiError as problem:
            return answers.error(problem, transport=_transport(request))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        if isinstance(method, Batch):
            return StreamedAnswer(result.pieces()) if isinstance(result, Stream) else answers.Answer(result)
        if isinstance(result, Stream):
            return StreamedAnswer(wrapped(b'{"result":', result.pieces(), b"}"))
        return answers.result(result)

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


def _too_large(max_bytes: int) -> RequestError:
    message = f"the body is larger than {max_bytes} bytes"
    return RequestError(413, BAD_REQUEST, message, {"connection": "close"})
