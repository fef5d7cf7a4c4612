"""`fastapi`: FastAPI on uvicorn with uvloop, and the `ConnectionManager` that most projects have.

A list of sockets; a broadcast sends to all of them with `asyncio.gather` in batches of 100. Messages come from a Redis
channel (redis-py), as they would with more than one process. Keepalive and the WebSocket implementation are uvicorn's
defaults; the access log is off. A program:
`python -m loadtest.bench.servers.fastapi_peer PORT REDIS_SOCKET CHANNEL`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from loadtest.bench.generator import raise_file_limit
from loadtest.bench.servers.server import BACKLOG, HOST
from loadtest.bench.servers.websockets_peer import messages, watch_input

BATCH = 100


class ConnectionManager:
    """The class of the FastAPI documentation, with batches."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        """Accept and remember."""
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        """Forget."""
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        """Send to everyone, 100 at a time; who cannot be reached is skipped."""
        connections = list(self.active_connections)
        for begin in range(0, len(connections), BATCH):
            batch = connections[begin : begin + BATCH]
            await asyncio.gather(*(connection.send_text(message) for connection in batch), return_exceptions=True)


class Server(uvicorn.Server):
    """A uvicorn server that says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: asyncio.Event) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self._listening.set()


async def serve(port: int, redis_path: str, channel: str) -> None:
    """Serve until the input ends."""
    listening = asyncio.Event()
    app = FastAPI()
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            manager.disconnect(websocket)

    app.add_api_websocket_route("/", endpoint)

    async def relay() -> None:
        async for message in messages(redis_path, channel):
            if message:
                await manager.broadcast(message)
            else:
                await listening.wait()
                print("ready", flush=True)

    config = uvicorn.Config(app, HOST, port, log_level="warning", access_log=False, backlog=BACKLOG)
    server = Server(config, listening)
    tasks = [asyncio.create_task(relay()), asyncio.create_task(watch_input().wait())]
    serving = asyncio.create_task(server.serve())
    await asyncio.wait((serving, *tasks), return_when=asyncio.FIRST_COMPLETED)
    os._exit(0)  # the driver is done with it: thousands of closing handshakes would only take time


if __name__ == "__main__":
    raise_file_limit()
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
