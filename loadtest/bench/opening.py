"""Opening connections: TCP, WebSocket handshake and, for the gateway, connect and subscribe, many at a time.

The clock runs from the first `connect()` to the last reply. A client that is refused, closed or answered with an error
counts under its reason; nothing is tried again.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtest.bench.chunks import ChunkError, parse
from loadtest.bench.clients import READ_BYTES, RESET_ON_CLOSE, Clients
from loadtest.bench.dialects import Dialect

KEY = "bmV4dXMtYmVuY2gtMDAwMQ=="
ACCEPT = base64.b64encode(hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
"""What every server must answer to `KEY` (RFC 6455 §4.2.2, which fixes SHA-1)."""

IP_BIND_ADDRESS_NO_PORT = 24
"""Linux: choose the port at `connect()`, when the destination is known, not at `bind()`."""

CONNECTIONS_PER_ADDRESS = 10_000
"""One source address slows down in `connect()` past about 14,000 ports."""

ETHERNET_SEGMENT = 1460
OPENING_DEADLINE_S = 60.0
PROGRESS_INTERVAL_S = 0.1


@dataclass(slots=True)
class Opened:
    """How an `open_connections` went. Times in seconds; `client_cpu_s` is the generator's own CPU time."""

    connections: int = 0
    elapsed_s: float = 0.0
    client_cpu_s: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, clients: int = 1) -> None:
        """Count clients that were not served."""
        self.refused[reason] = self.refused.get(reason, 0) + clients


def upgrade_request(host: str, port: int, path: str) -> bytes:
    """A handshake request without Origin, subprotocol or extensions."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class Opening:
    """One connection on its way: sends the request, then `hello` (may be empty), then waits for `dialect.replies`."""

    __slots__ = ("_buffer", "_dialect", "_hello", "_on_done", "_request", "_seen_replies", "_upgraded", "client")

    def __init__(
        self,
        client: socket.socket,
        request: bytes,
        hello: bytes,
        dialect: Dialect,
        on_done: Callable[[Opening, str, bytes], None],
    ) -> None:
        self.client = client
        self._request = request
        self._hello = hello
        self._dialect = dialect
        self._seen_replies = 0
        self._on_done = on_done
        self._upgraded = False
        self._buffer = b""

    def start(self, clients: Clients, destination: tuple[str, int]) -> None:
        """Connect. On loopback the connection is usually there at once, and the request leaves with it."""
        code = self.client.connect_ex(destination)
        if code not in (0, errno.EINPROGRESS):
            self._on_done(self, f"connect(): {os.strerror(code)}", b"")
            return
        try:
            self.client.send(self._request)
        except BlockingIOError:
            clients.watch(self.client.fileno(), self._writable(clients), select.EPOLLOUT)
        except OSError as error:
            self._on_done(self, f"refused: {error.strerror}", b"")
        else:
            clients.watch(self.client.fileno(), self._readable, select.EPOLLIN | select.EPOLLET)

    def _writable(self, clients: Clients) -> Callable[[int], None]:
        def send_request(_events: int) -> None:
            clients.unwatch(self.client.fileno())
            try:
                self.client.send(self._request)
            except OSError as error:
                self._on_done(self, f"refused: {error.strerror}", b"")
            else:
                clients.watch(self.client.fileno(), self._readable, select.EPOLLIN | select.EPOLLET)

        return send_request

    def _readable(self, _events: int) -> None:
        try:
            data = self.client.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_done(self, f"connection lost while opening: {error.strerror}", b"")
            return
        if not data:
            self._on_done(self, "closed while opening", b"")
            return
        self._buffer += data
        try:
            if self._upgraded or self._upgrade():
                self._read_replies()
        except (ChunkError, OSError) as error:
            self._on_done(self, str(error), b"")

    def _upgrade(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        if not head.startswith(b"HTTP/1.1 101") or ACCEPT not in head:
            status = head.split(b"\r\n", 1)[0].decode(errors="replace")
            raise ChunkError(f"the handshake was answered with {status!r}")
        self._upgraded = True
        self._buffer = rest
        if self._hello:
            self.client.send(self._hello)
        return True

    def _read_replies(self) -> None:
        if self._seen_replies < self._dialect.replies and self._buffer:
            chunk = parse(self._buffer)
            self._buffer = chunk.tail
            if chunk.closed:
                raise ChunkError(f"closed by the server with code {chunk.closed} while opening")
            if chunk.answers:
                self.client.send(chunk.answers)
            for document in chunk.documents:
                self._seen_replies += self._dialect.is_reply(document)
        if self._seen_replies >= self._dialect.replies:
            self._on_done(self, "", self._buffer)


def open_connections(
    clients: Clients,
    destination: tuple[str, int],
    path: str,
    hellos: Sequence[bytes],
    dialect: Dialect,
    in_flight: int,
    next_sequence: int,
    progress: Callable[[int], None],
    addresses: Sequence[str] = (),
    deadline_s: float = OPENING_DEADLINE_S,
    receive_bytes: int = 0,
) -> Opened:
    """Open one connection for each of `hellos`, at most `in_flight` at a time; `progress` gets the number done.

    They come from `addresses` in turns; without any, from as many of 127.0.0.x as it takes. `receive_bytes` bounds what
    the kernel takes in for a connection that is not read, and makes its segments as small as on Ethernet: with those of
    the loopback the sending kernel takes 2.5 MiB for it. 0 = as it likes. Returns when all are open or refused, or
    after `deadline_s` (the rest counts as refused).
    """
    result = Opened()
    count = len(hellos)
    if not addresses and count > CONNECTIONS_PER_ADDRESS:
        addresses = [f"127.0.0.{1 + number}" for number in range(-(-count // CONNECTIONS_PER_ADDRESS))]
    request = upgrade_request(*destination, path)
    opening: set[Opening] = set()

    def done(which: Opening, refused: str, tail: bytes) -> None:
        opening.discard(which)
        if refused:
            result.refuse(refused)
            clients.unwatch(which.client.fileno())
            which.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            which.client.close()
        else:
            result.connections += 1
            clients.adopt(which.client, tail, next_sequence)

    started = 0
    cpu, begin = time.process_time(), time.monotonic()
    told = begin
    while started < count or opening:
        while started < count and len(opening) < in_flight:
            client = _socket(addresses[started % len(addresses)] if addresses else "")
            if receive_bytes:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_SEGMENT)
            which = Opening(client, request, hellos[started], dialect, done)
            opening.add(which)
            which.start(clients, destination)
            started += 1
        if opening:
            clients.step(0.5)
        now = time.monotonic()
        if now - told > PROGRESS_INTERVAL_S:
            told = now
            progress(started - len(opening))
        if now - begin > deadline_s:
            for which in list(opening):
                done(which, f"not open after {deadline_s:.0f} s", b"")
            if started < count:
                result.refuse(f"not started within {deadline_s:.0f} s", count - started)
            break
    result.elapsed_s = time.monotonic() - begin
    result.client_cpu_s = time.process_time() - cpu
    return result


def _socket(address: str) -> socket.socket:
    """A non-blocking socket, bound to `address` unless that is empty."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(False)
    if address:
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((address, 0))
    return client
