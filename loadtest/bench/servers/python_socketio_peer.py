"""`python-socketio`: its `AsyncServer` on uvicorn with uvloop, WebSocket only. Messages come from a Redis channel.

Each message is one `emit()` to everybody. The JSON module is orjson's, its fastest; nothing else is changed. A program:
`python -m loadtest.bench.servers.python_socketio_peer PORT REDIS_SOCKET CHANNEL`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import orjson
import socketio
import uvicorn
import uvloop

from loadtest.bench.generator import raise_file_limit
from loadtest.bench.servers.fastapi_peer import Server
from loadtest.bench.servers.server import BACKLOG, HOST
from loadtest.bench.servers.websockets_peer import messages, watch_input


class FastJson:
    """What python-socketio wants of a JSON module, by orjson."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        """Compact, as text."""
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_options: Any) -> Any:
        """As `json.loads`."""
        return orjson.loads(text)


async def serve(port: int, redis_path: str, channel: str) -> None:
    """Serve until the input ends."""
    listening = asyncio.Event()
    peer = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], json=FastJson, cors_allowed_origins=[])

    async def relay() -> None:
        async for message in messages(redis_path, channel):
            if message:
                await peer.emit("message", orjson.loads(message))
            else:
                await listening.wait()
                print("ready", flush=True)

    app = socketio.ASGIApp(peer)
    config = uvicorn.Config(app, HOST, port, log_level="warning", access_log=False, backlog=BACKLOG)
    tasks = [asyncio.create_task(relay()), asyncio.create_task(watch_input().wait())]
    serving = asyncio.create_task(Server(config, listening).serve())
    await asyncio.wait((serving, *tasks), return_when=asyncio.FIRST_COMPLETED)
    os._exit(0)  # the driver is done with it: thousands of closing handshakes would only take time


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
