"""`websockets`: the library's own server and `broadcast()`, on uvloop. Messages come from a Redis channel (redis-py).

A program: `python -m loadtest.bench.servers.websockets_peer PORT REDIS_SOCKET CHANNEL`. Keepalive and everything else
is as the library sets it. Ends with its input.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import uvloop
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websockets

from loadtest.bench.generator import raise_file_limit
from loadtest.bench.servers.server import BACKLOG, HOST


async def messages(redis_path: str, channel: str) -> AsyncIterator[str]:
    """Messages of a Redis channel, from the moment of the first `anext` on. The first item is empty: subscribed."""
    redis = Redis(unix_socket_path=redis_path, decode_responses=True)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        async for event in pubsub.listen():
            yield event["data"] if event["type"] == "message" else ""


def watch_input() -> asyncio.Event:
    """An event that is set when standard input ends, that is, when the driver does."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 1024) else ended.set())
    return ended


async def serve(port: int, redis_path: str, channel: str) -> None:
    """Serve until the input ends."""

    async def handle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async def relay() -> None:
        async for message in messages(redis_path, channel):
            if message:
                broadcast(server.connections, message)
            else:
                print("ready", flush=True)

    async with serve_websockets(handle, HOST, port, backlog=BACKLOG) as server:
        relaying = asyncio.create_task(relay())
        ending = asyncio.create_task(watch_input().wait())
        await asyncio.wait((relaying, ending), return_when=asyncio.FIRST_COMPLETED)
        relaying.cancel()


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
