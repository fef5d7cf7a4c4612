"""What the API answers: a result, or an error in one of two modes.

Replies have the shapes of Centrifugo's HTTP API, so that its client libraries work unchanged: errors
come with status 200 in the body, or, when the caller sends `X-Centrifugo-Error-Mode: transport`, as statuses. What is
refused before a method is looked at (no key, body too large) is a status in both modes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from fastapi import Response

from gateway.control.streams import StreamedAnswer
from gateway.errors import GatewayError
from protocol.codes import (
    BAD_REQUEST,
    METHOD_NOT_FOUND,
    NOT_AVAILABLE,
    TOO_MANY_REQUESTS,
    UNKNOWN_CHANNEL,
    UNRECOVERABLE_POSITION,
    ErrorCode,
)

CONFLICT: Final = 113
"""Only the HTTP API has this code."""

STATUSES: Final = {
    UNKNOWN_CHANNEL.code: 404,
    METHOD_NOT_FOUND.code: 404,
    BAD_REQUEST.code: 400,
    NOT_AVAILABLE.code: 400,
    TOO_MANY_REQUESTS.code: 429,
    UNRECOVERABLE_POSITION.code: 416,
    CONFLICT: 409,
}
"""Error code → status in transport mode; 500 for every other."""


class ApiError(GatewayError):
    """A call that is answered with an error. `detail` says to the caller what is wrong, with the field's name first."""

    def __init__(self, error: ErrorCode, detail: str = "") -> None:
        self.code = error.code
        self.message = f"{error.message}: {detail}" if detail else error.message
        super().__init__(self.message)


class RequestError(GatewayError):
    """A request that is refused before any method sees it, with a status in both error modes."""

    def __init__(self, status: int, error: ErrorCode, message: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.code = error.code
        self.message = message
        self.headers = headers
        super().__init__(message)


class Answer(Response):
    """A JSON body that is already bytes. Answers are for one caller, at one moment: nothing may keep them."""

    media_type = "application/json"

    def __init__(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(body, status, {"cache-control": "no-store", **(headers or {})})


def result(document: bytes | AsyncIterator[bytes], *, top_level: bool = False) -> Response:
    """The answer of a call that worked; `document` is the result as JSON, or makes it while it is sent."""
    head, tail = (b"", b"") if top_level else (b'{"result":', b"}")
    if isinstance(document, bytes):
        return Answer(b"%b%b%b" % (head, document, tail))

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        async for chunk in document:
            yield chunk
        yield tail

    return StreamedAnswer(chunks())


def error_document(problem: ApiError) -> bytes:
    """An error as JSON."""
    return msgspec.json.encode({"code": problem.code, "message": problem.message})


def error(problem: ApiError, *, transport: bool) -> Answer:
    """The answer of a call that did not."""
    body = error_document(problem)
    if transport:
        return Answer(body, STATUSES.get(problem.code, 500))
    return Answer(b'{"error":%b}' % body)


def refusal(problem: RequestError) -> Answer:
    """The answer to a request that was not let in."""
    body = msgspec.json.encode({"error": {"code": problem.code, "message": problem.message}})
    return Answer(body, problem.status, problem.headers)
