"""`batch`: several calls in one request, and `rpc`, which this gateway has nobody to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from gateway.config import ApiKey
from gateway.control.answers import ApiError, error_document
from gateway.control.methods import Chunks, Method
from protocol.codes import BAD_REQUEST, LIMIT_EXCEEDED, METHOD_NOT_FOUND, NOT_AVAILABLE
from protocol.commands import Data

MAX_COMMANDS: Final = 1000
"""Commands in one batch."""
TOGETHER: Final = 50
"""Commands of a parallel batch that are under way at once."""
BODY_BYTES: Final = 16 * 1024 * 1024
"""Bytes of all its commands."""


class BatchRequest(msgspec.Struct):
    """`commands`: objects with one field, the name of a method, that holds its request. `parallel`: in any order."""

    commands: list[dict[str, Raw]] = []
    parallel: bool = False


class BatchResult(msgspec.Struct):
    """For each command an object with the name of its method and the result, or with `error`."""

    replies: list[dict[str, Any]]


class RpcRequest(msgspec.Struct):
    method: str = ""
    params: Data = UNSET


class RpcResult(msgspec.Struct):
    data: Any = None


class Batch(Method[BatchRequest]):
    """`batch` over other methods. Each command is checked against the caller's key by itself."""

    def __init__(self, methods: Sequence[Method[Any]]) -> None:
        super().__init__(
            "batch",
            "Several calls in one request",
            BatchRequest,
            BatchResult,
            self._not_called,
            body_bytes=BODY_BYTES,
            top_level=True,
        )
        self._methods: Mapping[str, Method[Any]] = {method.name: method for method in methods}

    async def answer(self, body: bytes, key: ApiKey | None) -> bytes | Chunks:
        """One reply for each command, in their order; the answer is sent while the commands are carried out."""
        request = self.decode(body)
        if len(request.commands) > MAX_COMMANDS:
            raise ApiError(LIMIT_EXCEEDED, f"commands: {len(request.commands)}, at most {MAX_COMMANDS} are allowed")
        return self._replies(request, key)

    async def _replies(self, request: BatchRequest, key: ApiKey | None) -> Chunks:
        yield b'{"replies":['
        together = TOGETHER if request.parallel else 1
        for start in range(0, len(request.commands), together):
            some = request.commands[start : start + together]
            early = await asyncio.gather(*(self._call_early(command, key) for command in some))
            for number, command in enumerate(some, start):
                name, result = early[number - start] or await self._call_one(command, key)
                separator = b"," if number else b""
                if isinstance(result, ApiError):
                    yield separator + b'{"error":%b}' % error_document(result)
                elif isinstance(result, bytes):
                    yield separator + b'{"%b":%b}' % (name.encode(), result)
                else:
                    yield separator + b'{"%b":' % name.encode()
                    async for chunk in result:
                        yield chunk
                    yield b"}"
        yield b"]}"

    async def _call_early(
        self, command: Mapping[str, Raw], key: ApiKey | None
    ) -> tuple[str, bytes | Chunks | ApiError] | None:
        """None = in its turn: what comes in chunks is not begun before, so that one page is in memory at a time."""
        if any((method := self._methods.get(name)) is not None and method.streams for name in command):
            return None
        return await self._call_one(command, key)

    async def _call_one(self, command: Mapping[str, Raw], key: ApiKey | None) -> tuple[str, bytes | Chunks | ApiError]:
        name = next(iter(command), "")
        try:
            if len(command) != 1:
                raise ApiError(BAD_REQUEST, f"commands: an object with {len(command)} fields, one is expected")
            method = self._methods.get(name)
            if method is None:
                raise ApiError(METHOD_NOT_FOUND, f"{name:.64}")
            return name, await method.answer(bytes(command[name]), key)
        except ApiError as problem:
            return name, problem

    async def _not_called(self, _request: BatchRequest) -> BatchResult:
        raise AssertionError("a batch is answered by its commands")


def rpc_method() -> Method[RpcRequest]:
    """`rpc`."""

    async def call(_request: RpcRequest) -> RpcResult:
        raise ApiError(NOT_AVAILABLE, "no backend answers rpc in this configuration")

    return Method("rpc", "Call a method of the backend", RpcRequest, RpcResult, call)
