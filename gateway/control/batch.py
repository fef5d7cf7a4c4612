"""`batch`: many commands in one request, each with its own result or error.

One after the other, or at once with `parallel`. Commands that answer with a whole channel are streamed in either case,
and in their turn, so that one channel's page is in memory at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw

from gateway.control.answers import ApiError
from gateway.control.keys import Scope
from gateway.control.methods import Method, decode_body
from gateway.control.publish import ApiErrorBody
from gateway.control.streams import Pieces, Stream, wrapped
from protocol.codes import BAD_REQUEST, METHOD_NOT_FOUND

MAX_COMMANDS: Final = 1000
"""Commands of one batch."""
AT_ONCE: Final = 100
"""Commands of a parallel batch that are under way at once."""
FLUSH_BYTES: Final = 65_536
"""Replies are sent together until they have that size."""


class BatchRequest(msgspec.Struct):
    """Commands."""

    commands: Annotated[
        list[dict[str, Raw]], Meta(description=f'Objects {{"<method>": <request>}}, at most {MAX_COMMANDS}; no batch')
    ] = []
    parallel: Annotated[bool, Meta(description="Do not wait for one before the next begins")] = False


class BatchResult(msgspec.Struct):
    """One reply for each command, in their order: `{"<method>": <result>}` or `{"error": …}`."""

    replies: list[dict[str, Any]]


class Batch:
    """The method `batch`. Its answer is the result itself, without `{"result": …}` around it."""

    name: Final = "batch"
    summary: Final = "Carry out many commands"
    request: Final = BatchRequest
    result: Final = BatchResult
    example: Final = '{"commands": [{"publish": {"channel": "news", "data": 1}}, {"info": {}}]}'

    def __init__(self, methods: Iterable[Method[Any]]) -> None:
        self._methods: Mapping[str, Method[Any]] = {method.name: method for method in methods}
        self._decoder = msgspec.json.Decoder(BatchRequest)

    def check_allowed(self, scope: Scope) -> None:
        """Whether the key may call this is asked for each command."""

    async def answer(self, body: bytes, scope: Scope) -> Stream:
        """The replies. Raises ApiError (107) for a body that is no batch."""
        request = decode_body(self._decoder, body)
        if len(request.commands) > MAX_COMMANDS:
            raise ApiError(BAD_REQUEST, f"commands: {len(request.commands)} are given, {MAX_COMMANDS} are allowed")
        return await Stream.begin(_joined(self._replies(request, scope)))

    async def _replies(self, request: BatchRequest, scope: Scope) -> AsyncGenerator[bytes | Pieces, None]:
        """A reply for each command: whole, or in pieces."""
        early: list[bytes | Pieces | None] = [None] * len(request.commands)
        if request.parallel:
            under_way = asyncio.Semaphore(AT_ONCE)

            async def answer(command: dict[str, Raw]) -> bytes | Pieces | None:
                if self._streams(command):
                    return None
                async with under_way:
                    return await self._reply(command, scope)

            early = await asyncio.gather(*map(answer, request.commands))
        for command, reply in zip(request.commands, early, strict=True):
            yield reply if reply is not None else await self._reply(command, scope)

    def _streams(self, command: dict[str, Raw]) -> bool:
        return any((method := self._methods.get(name)) is not None and method.streams for name in command)

    async def _reply(self, command: dict[str, Raw], scope: Scope) -> bytes | Pieces:
        try:
            name, body = self._taken_apart(command)
            method = self._methods.get(name)
            if method is None:
                raise ApiError(METHOD_NOT_FOUND, name)
            result = await method.answer(body, scope)
        except ApiError as problem:
            return b'{"error":%b}' % msgspec.json.encode(ApiErrorBody(problem.code, problem.message))
        if isinstance(result, Stream):
            return wrapped(b'{"%b":' % name.encode(), result.pieces(), b"}")
        return b'{"%b":%b}' % (name.encode(), result)

    def _taken_apart(self, command: dict[str, Raw]) -> tuple[str, bytes]:
        """Name and request. Raises ApiError (107)."""
        if len(command) != 1:
            raise ApiError(BAD_REQUEST, 'commands: each must be an object with one key, as {"publish": {…}}')
        ((name, body),) = command.items()
        if name == self.name:
            raise ApiError(BAD_REQUEST, "commands: a batch cannot hold a batch")
        return name, bytes(body)


async def _joined(replies: AsyncGenerator[bytes | Pieces, None]) -> Pieces:
    """The whole answer, small replies together in one piece."""
    waiting = bytearray(b'{"replies":[')
    separator = b""
    async with contextlib.aclosing(replies):
        async for reply in replies:
            waiting += separator
            separator = b","
            if isinstance(reply, bytes):
                waiting += reply
            else:
                async with contextlib.aclosing(reply):
                    async for piece in reply:
                        yield bytes(waiting) + piece
                        waiting.clear()
            if len(waiting) >= FLUSH_BYTES:
                yield bytes(waiting)
                waiting.clear()
    yield bytes(waiting) + b"]}"
