"""An answer that is made while it is sent: a piece when the one before it has been taken by the caller's connection.

What goes wrong on the way can only be said by breaking the connection off, without the end that HTTP's chunked encoding
needs: then the caller knows that it has not everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import GatewayError
from gateway.log import get_logger

STALLED_S: Final = 60.0
"""Time that a caller may leave a piece unread before the connection is broken off."""


class StreamedAnswer(Response):
    """A JSON body in pieces. Making one may raise GatewayError."""

    media_type = "application/json"

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.get_running_loop().create_task(_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in self._pieces:
                if gone.done():
                    return
                async with asyncio.timeout(STALLED_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (GatewayError, TimeoutError) as error:
            # The server closes a connection whose answer has no end.
            reason = str(error) or f"the caller has read nothing for {STALLED_S:.0f} s"
            get_logger().warning("answer broken off", path=scope["path"], reason=reason)
        finally:
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
