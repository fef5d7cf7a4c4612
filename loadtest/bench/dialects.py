"""How a client introduces itself to each kind of server: what it sends after the upgrade, and what it waits for.

Afterwards all of them are the same to a client: text messages with the evidence of `messages` in them, and pings that
`chunks` answers. A dialect is as small as its protocol allows, so that no server is charged for a chatty client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import jwt
import orjson

from loadtest.bench.chunks import TEXT, ChunkError, masked

TOKEN_LIFE_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Dialect:
    """`hellos` makes one frame for each of some new users (numbers) who want `channel`; `secret` signs their tokens.
    A client is open after `replies` documents for which `is_reply` is true; it raises `ChunkError` for a refusal."""

    replies: int
    hellos: Callable[[Sequence[int], str, str, int], list[bytes]]
    is_reply: Callable[[bytes], bool]


def _no_hellos(users: Sequence[int], _channel: str, _secret: str, _now_s: int) -> list[bytes]:
    return [b""] * len(users)


def _connect_and_subscribe(users: Sequence[int], channel: str, secret: str, now_s: int) -> list[bytes]:
    frames = []
    for user in users:
        claims = {"sub": f"user-{user}", "iat": now_s, "exp": now_s + TOKEN_LIFE_S}
        token = jwt.encode(claims, secret, algorithm="HS256")
        commands = b'{"id":1,"connect":{"token":"%b"}}\n{"id":2,"subscribe":{"channel":"%b"}}'
        frames.append(masked(TEXT, commands % (token.encode(), channel.encode())))
    return frames


def _socket_io_connect(users: Sequence[int], _channel: str, _secret: str, _now_s: int) -> list[bytes]:
    return [masked(TEXT, b"40")] * len(users)


def _is_centrifuge_reply(document: bytes) -> bool:
    reply = orjson.loads(document)
    if "error" in reply:
        raise ChunkError(f"answered with an error: {document.decode(errors='replace')[:120]}")
    return "id" in reply


def _is_socket_io_connect(document: bytes) -> bool:
    """Engine.IO packet 0 (open) comes first; then 4 (message) with Socket.IO packet 0 (connect) or 4 (refused)."""
    if document.startswith((b"44", b"41", b"1")):
        raise ChunkError(f"answered with an error: {document.decode(errors='replace')[:120]}")
    return document.startswith(b"40")


RAW: Final = Dialect(0, _no_hellos, lambda _document: False)
"""Text messages and nothing else."""
CENTRIFUGE: Final = Dialect(2, _connect_and_subscribe, _is_centrifuge_reply)
"""Centrifuge in JSON: connect with a token of its own user, and one subscription, in one frame."""
SOCKET_IO: Final = Dialect(1, _socket_io_connect, _is_socket_io_connect)
"""Socket.IO 5 over Engine.IO 4, WebSocket only: connect to the main namespace."""


def dialect(name: str) -> Dialect:
    """`raw`, `centrifuge` or `socket.io`."""
    return {"raw": RAW, "centrifuge": CENTRIFUGE, "socket.io": SOCKET_IO}[name]
