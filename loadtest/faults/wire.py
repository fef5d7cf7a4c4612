"""One WebSocket connection of a client: handshake and frames, by hand, over a socket that can fall silent.

`vanish` makes a socket deaf without telling the other side: a filter in the kernel (`SO_ATTACH_FILTER`) that takes no
packet lets every packet to this socket go unanswered, as if the network were gone. No FIN, no RST, no acknowledgement.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from typing import Final, Protocol, cast

from loadtest.bench.chunks import CLOSE, PING, PONG, TEXT, masked
from loadtest.bench.clients import RESET_ON_CLOSE
from loadtest.bench.opening import ACCEPT, upgrade_request

SO_ATTACH_FILTER: Final = 26
TAKE_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""The classic BPF program `return 0`: of every packet, keep 0 bytes."""
SEGMENT_BYTES: Final = 1400
"""The kernel lets ten segments and more wait on the server's side: on loopback these are 64 KiB each."""
LOST: Final = 1006
"""RFC 6455 §7.1.5: the connection ended without a close frame."""


class Owner(Protocol):
    """Who is told what happens to a connection. After `closed`, nothing more."""

    def opened(self, wire: Wire) -> None:
        """The handshake is done."""
        ...

    def received(self, payload: bytes) -> None:
        """One text message."""
        ...

    def closed(self, code: int, reason: str) -> None:
        """The server has closed the connection, or it broke (1006)."""
        ...


class Wire(asyncio.Protocol):
    """Created by `connect`."""

    def __init__(self, owner: Owner, client: socket.socket, request: bytes) -> None:
        self._owner: Owner | None = owner
        self._socket = client
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._upgraded = False
        self._tail = b""
        self._code, self._reason = LOST, "no close frame"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._tail + data if self._tail else data
        if not self._upgraded:
            head, separator, rest = data.partition(b"\r\n\r\n")
            if not separator:
                self._tail = data
                return
            if not head.startswith(b"HTTP/1.1 101") or ACCEPT not in head:
                self._reason = f"the handshake was answered with {head[:80]!r}"
                self._abort()
                return
            self._upgraded, data = True, rest
            if self._owner is not None:
                self._owner.opened(self)
        self._take_frames(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._code == LOST and exc is not None:
            self._reason = str(exc)
        self._tell()

    # What the client does.

    def send(self, text: bytes) -> None:
        """Send one message."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(masked(TEXT, text))

    def drop(self) -> None:
        """Reset the connection. The owner hears nothing more of it."""
        self._owner = None
        self._abort()

    def fall_asleep(self) -> None:
        """Take nothing from the socket."""
        if self._transport is not None:
            self._transport.pause_reading()

    def wake_up(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def vanish(self) -> None:
        """From now on the server hears nothing of this client. The owner hears nothing of the connection."""
        self._owner = None
        program = ctypes.create_string_buffer(TAKE_NOTHING)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
        if self._transport is not None:
            self._transport.pause_reading()

    def _take_frames(self, data: bytes) -> None:
        position, end = 0, len(data)
        while end - position >= 2:
            size, body = data[position + 1], position + 2
            if size == 126:
                size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
            elif size == 127:
                size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
            if body + size > end:
                break
            self._take_frame(data[position], data[body : body + size])
            position = body + size
        self._tail = data[position:]

    def _take_frame(self, first_byte: int, payload: bytes) -> None:
        if first_byte == 0x80 | TEXT:
            if self._owner is not None:
                self._owner.received(payload)
        elif first_byte == 0x80 | CLOSE:
            if len(payload) >= 2:
                self._code, self._reason = int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")
            else:
                self._code, self._reason = 1005, ""
            if self._transport is not None:
                self._transport.write(masked(CLOSE, payload))
                self._transport.close()
            self._tell()
        elif first_byte == 0x80 | PING and self._transport is not None:
            self._transport.write(masked(PONG, payload))
        elif first_byte != 0x80 | PONG:
            self._reason = f"a frame that begins with {first_byte:#x}"
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()

    def _tell(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.closed(self._code, self._reason)


async def connect(owner: Owner, host: str, port: int, path: str, receive_buffer_bytes: int = 0) -> Wire:
    """Connect, and begin the handshake. `receive_buffer_bytes` fixes what the kernel takes for a client that does not
    read, and segments are as small as in a real network; 0 = as the kernel likes. Raises OSError."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        client.setblocking(False)
        if receive_buffer_bytes:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (host, port))
        request = upgrade_request(host, port, path)
        _, wire = await loop.create_connection(lambda: Wire(owner, client, request), sock=client)
    except BaseException:
        client.close()
        raise
    return wire
