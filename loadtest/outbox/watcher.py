"""A client on every channel, that notes what it gets and when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from loadtest.bench.errors import BenchError


class Watcher:
    """One connection. Made by `watching`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.got: dict[str, list[int]] = defaultdict(list)
        """Channel → data, in the order of arrival."""
        self.at: dict[int, float] = {}
        """Data → monotonic time of its first arrival."""
        self.replies = 0

    @property
    def count(self) -> int:
        return sum(map(len, self.got.values()))

    async def send(self, *commands: dict[str, Any]) -> None:
        await self._socket.send(b"\n".join(map(orjson.dumps, commands)).decode())

    async def wait(self, count: int) -> None:
        """Until so many publications have come."""
        while self.count < count:  # noqa: ASYNC110 - an event for each publication would slow the reading down
            await asyncio.sleep(0.001)

    async def read(self) -> None:
        """Until the connection ends, which it must not."""
        async for message in self._socket:
            now = time.monotonic()
            for line in message.split("\n" if isinstance(message, str) else b"\n"):  # type: ignore[arg-type]
                reply = orjson.loads(line)
                if not reply:
                    await self._socket.send("{}")
                elif "error" in reply:
                    raise BenchError(f"the client is refused: {reply['error']}")
                elif "id" in reply:
                    self.replies += 1
                elif "pub" in reply.get("push", ()):
                    number = reply["push"]["pub"]["data"]
                    self.got[reply["push"]["channel"]].append(number)
                    self.at.setdefault(number, now)
        raise BenchError(f"the client was disconnected: {self._socket.close_code} {self._socket.close_reason}")


@contextlib.asynccontextmanager
async def watching(port: int, token: str, channels: Sequence[str]) -> AsyncIterator[Watcher]:
    """A client that is subscribed to `channels`. Raises BenchError when it is disconnected meanwhile."""
    url = f"ws://127.0.0.1:{port}/connection/websocket"
    async with connect(url, compression=None, proxy=None, ping_interval=None, max_size=None, max_queue=None) as socket:
        watcher = Watcher(socket)
        reading = asyncio.get_running_loop().create_task(watcher.read())
        try:
            subscribe = [{"id": 2 + n, "subscribe": {"channel": each}} for n, each in enumerate(channels)]
            await watcher.send({"id": 1, "connect": {"token": token}}, *subscribe)
            while watcher.replies < 1 + len(channels):
                if reading.done():
                    reading.result()
                await asyncio.sleep(0.02)
            yield watcher
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
