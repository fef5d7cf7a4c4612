"""Answers that are made and sent piece by piece: a channel with a million entries is never in memory as a whole.

A piece is made when the one before it has been taken by the caller's connection. Until the first piece is there, what
goes wrong is a proper error; afterwards the only way to say so is to break the connection off, without the end that
HTTP's chunked encoding needs. The rule that is easiest to break: nothing but the current piece may be kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.control.answers import ApiError
from gateway.errors import BrokerError
from gateway.log import get_logger

PAGE: Final = 1000
"""Entries in one piece, at most."""
STALLED_S: Final = 60.0
"""Time that a caller may leave a piece unread before the connection is broken off."""

Pieces = AsyncGenerator[bytes, None]
"""Pieces of one JSON document. Raise BrokerError or ApiError."""


class Stream:
    """One JSON document in pieces, of which the first is there."""

    __slots__ = ("_first", "_rest")

    def __init__(self, first: bytes, rest: Pieces) -> None:
        self._first = first
        self._rest = rest

    @classmethod
    async def begin(cls, pieces: Pieces) -> Stream:
        """Make the first piece. Raises what that raises."""
        return cls(await anext(pieces), pieces)

    async def pieces(self) -> Pieces:
        """All pieces, once."""
        async with contextlib.aclosing(self._rest) as rest:
            first, self._first = self._first, b""
            yield first
            del first
            async for piece in rest:
                yield piece


class StreamedAnswer(Response):
    """A JSON body that is made while it is sent."""

    media_type = "application/json"

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.get_running_loop().create_task(_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with contextlib.aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    if gone.done():
                        return
                    async with asyncio.timeout(STALLED_S):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (BrokerError, ApiError, TimeoutError) as error:
            # Returning without the end of the body makes the server close the connection.
            reason = str(error) or f"the caller has read nothing for {STALLED_S:.0f} s"
            get_logger().warning("answer broken off", path=scope["path"], reason=reason)
        finally:
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def wrapped(before: bytes, pieces: Pieces, after: bytes) -> Pieces:
    """The pieces with something before the first and behind the last."""
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield before + piece
            before = b""
        yield before + after
