"""A backend to be asked over HTTP: a real server on loopback that answers, or fails, as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

Json = dict[str, Any]


class Asked(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: Json


class Answer(NamedTuple):
    """One response."""

    body: Any = None
    status: int = 200
    headers: tuple[str, ...] = ()


class HangUp(Exception):
    """Close the connection without an answer."""


Respond = Callable[[Asked], Awaitable[Any]]


class BackendServer:
    """Answers with what `respond` gives: an `Answer`, bytes, or anything that is JSON. Counts connections."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.port = 0
        self.respond: Respond = self._empty
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def bodies(self, path: str) -> list[Json]:
        """What was asked there."""
        return [asked.body for asked in self.asked if asked.path == f"/{path}"]

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving)
        await self._server.wait_closed()

    async def _empty(self, _asked: Asked) -> Any:
        return {"result": {}}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(head[0].split(" ")[1], headers, json.loads(body or b"{}"))
                self.asked.append(asked)
                writer.write(_encoded(await self.respond(asked)))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, HangUp):
            pass  # the client is gone, or the test is over
        finally:
            self._serving.discard(task)
            writer.transport.abort()


def _encoded(given: Any) -> bytes:
    answer = given if isinstance(given, Answer) else Answer(given)
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    lines = [f"HTTP/1.1 {answer.status} Whatever", f"Content-Length: {len(body)}", *answer.headers]
    return "\r\n".join((*lines, "", "")).encode() + body


@asynccontextmanager
async def backend_server() -> AsyncIterator[BackendServer]:
    server = BackendServer()
    await server.open()
    try:
        yield server
    finally:
        await server.aclose()
