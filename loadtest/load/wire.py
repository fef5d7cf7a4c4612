"""A WebSocket client on a blocking socket: `websockets`' Sans-I/O protocol, checked on both sides of every frame.

Blocking calls are switches under gevent. Chosen by CPU: a received publication costs 6 µs here, 69 µs in
websocket-client, 4 µs in the parser of `loadtest.bench.chunks`, which checks less (`loadtest.load.compare`).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from loadtest.faults.wire import SEGMENT_BYTES

READ_BYTES: Final = 65_536
PING: Final = b"{}"


class WireError(Exception):
    """The connection could not be opened, or broke. `code` is the close code, 0 without one."""

    def __init__(self, what: str, code: int = 0) -> None:
        super().__init__(what)
        self.code = code


class Wire:
    """One connection. `open` first."""

    def __init__(self, host: str, port: int, path: str, *, receive_bytes: int = 0, timeout_s: float = 30.0) -> None:
        """`receive_bytes`: what the kernel keeps for a client that does not read; 0 = as usual."""
        self._address = (host, port)
        self._protocol = ClientProtocol(parse_uri(f"ws://{host}:{port}{path}"))
        self._receive_bytes = receive_bytes
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect and shake hands. Raises WireError."""
        connecting = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket = connecting
        try:
            if self._receive_bytes:
                connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting.settimeout(self._timeout_s)
            connecting.connect(self._address)
            self._protocol.send_request(self._protocol.connect())
            self._flush()
            while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
                self._read()
            connecting.settimeout(None)
        except OSError as error:
            self.close()
            raise WireError(f"cannot connect: {error}") from error
        refused = self._protocol.handshake_exc
        if refused is not None:
            self.close()
            raise WireError(f"refused: {refused if isinstance(refused, InvalidHandshake) else type(refused).__name__}")

    def send(self, document: bytes) -> None:
        """Send one text message. Raises WireError."""
        if self._protocol.state is not State.OPEN:
            raise WireError("is closed", self._code())
        self._protocol.send_text(document)
        self._flush()

    def receive(self) -> list[bytes]:
        """Wait for messages; the documents in them. Pings are answered and not among them. Raises WireError."""
        while True:
            documents = self._documents()
            if documents:
                return documents
            if self._protocol.state is State.CLOSED:
                code = self._code()
                raise WireError(f"closed with {code}" if code else "ended without a close frame", code)
            self._read()

    def close(self) -> None:
        """End it without ceremony. Whoever waits in `receive` gets its WireError."""
        if self._socket is not None:
            with suppress(OSError):  # it was never connected, or is gone already
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _documents(self) -> list[bytes]:
        found: list[bytes] = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if not event.fin:
                raise WireError("a fragmented message")
            for document in bytes(event.data).split(b"\n"):
                if document != PING:
                    found.append(document)
                elif self._protocol.state is State.OPEN:  # a ping with a close frame behind it needs no answer
                    self.send(PING)
        return found

    def _read(self) -> None:
        if self._socket is None:
            raise WireError("was not opened")
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError as error:
            raise WireError(f"broke: {error}", self._code()) from error
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data and self._socket is not None:
                try:
                    self._socket.sendall(data)
                except OSError as error:
                    raise WireError(f"broke: {error}", self._code()) from error

    def _code(self) -> int:
        received = self._protocol.close_rcvd
        return received.code if received is not None else 0
