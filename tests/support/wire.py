"""Bytes on a socket, for what no client library would send."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from typing import Any

from websockets.frames import Opcode
from websockets.utils import apply_mask

from tests.support.waiting import DEADLINE_S

PATH = "/connection/websocket"


def request(path: str = PATH, *, method: str = "GET", version: str = "HTTP/1.1", **headers: str | None) -> bytes:
    """An opening handshake (RFC 6455 §4.1). Headers with `_` for `-` are added or replaced; None leaves one out."""
    fields: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(payload: bytes, opcode: int = Opcode.TEXT, *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    """One frame (RFC 6455 §5.2), whether or not it makes sense. `rsv`: the three reserved bits."""
    size = len(payload)
    short, extended = (
        (size, b"") if size < 126 else (126, size.to_bytes(2)) if size < 2**16 else (127, size.to_bytes(8))
    )
    head = bytes((fin << 7 | rsv << 4 | opcode, mask << 7 | short)) + extended
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + apply_mask(payload, key)


class Wire:
    """A connection to the public port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int = 0) -> Wire:
        """`receive_buffer`: bytes that the kernel takes for us; 0 = its default."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=sock, limit=max(receive_buffer, 2**16)))

    @classmethod
    async def upgraded(cls, port: int, path: str = PATH, *, receive_buffer: int = 0, **headers: str | None) -> Wire:
        """A connection past its handshake."""
        wire = await cls.open(port, receive_buffer=receive_buffer)
        wire.send(request(path, **headers))
        assert (await wire.status())[0] == 101
        return wire

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def send_commands(self, *commands: Any) -> None:
        """One text frame of JSON documents."""
        self.send(frame("\n".join(map(json.dumps, commands)).encode()))

    async def status(self) -> tuple[int, str]:
        """Status and body of an HTTP response. The body of 101 is empty."""
        head = (await self._in_time(self.reader.readuntil(b"\r\n\r\n"))).decode()
        status = int(head.split(" ", 2)[1])
        return status, "" if status == 101 else (await self.rest()).decode()

    async def rest(self) -> bytes:
        """Everything until the gateway closes its side, or resets the connection."""
        data = b""
        try:
            while part := await self._in_time(self.reader.read(65_536)):
                data += part
        except ConnectionResetError:
            pass
        return data

    async def next_frame(self) -> tuple[Opcode, bytes]:
        """Opcode and payload of the next frame."""
        first, second = await self._in_time(self.reader.readexactly(2))
        assert not second & 0x80, "servers do not mask"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self._in_time(self.reader.readexactly(2 if size == 126 else 8)))
        return Opcode(first & 0x0F), await self._in_time(self.reader.readexactly(size))

    async def replies(self) -> list[Any]:
        """The documents of the next text frame."""
        opcode, payload = await self.next_frame()
        assert opcode is Opcode.TEXT, (opcode, payload)
        return [json.loads(line) for line in payload.split(b"\n")]

    async def closed(self) -> tuple[int, str]:
        """Skip messages up to the close frame; its code and reason."""
        while True:
            opcode, payload = await self.next_frame()
            if opcode is Opcode.CLOSE:
                return int.from_bytes(payload[:2]), payload[2:].decode()

    async def connect(self, token: str, *channels: str) -> None:
        """`connect` and `subscribe`, which must succeed."""
        subscribes = [{"id": 2 + position, "subscribe": {"channel": name}} for position, name in enumerate(channels)]
        self.send_commands({"id": 1, "connect": {"token": token}}, *subscribes)
        answered = 0
        while answered < 1 + len(channels):
            for reply in await self.replies():
                assert "error" not in reply, reply
                answered += "id" in reply

    async def aclose(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return  # reset by the gateway

    @staticmethod
    async def _in_time(work: Any) -> Any:
        return await asyncio.wait_for(work, DEADLINE_S)
