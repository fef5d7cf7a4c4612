"""One connection that asks and waits for the answer, over and over: how it fares while others are busy.

A blocking socket in a thread of its own: what it measures is the gateway and the kernel, no event loop of ours.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

import jwt
import orjson

from loadtest.bench.chunks import TEXT, masked, parse
from loadtest.bench.errors import BenchError
from loadtest.bench.opening import upgrade_request

TIMEOUT_S: Final = 30.0
READ_BYTES: Final = 65_536


class Prober:
    """Asks every `interval_s` from `start` to `stop`."""

    def __init__(self, host: str, port: int, path: str, secret: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._host, self._port, self._path, self._secret = host, port, path, secret
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self._ended = threading.Event()
        self._tail = b""
        self._failed = ""
        self.round_trips_ns: list[int] = []

    def start(self) -> None:
        """Connect, and begin to ask. Raises BenchError."""
        try:
            self._socket = socket.create_connection((self._host, self._port), TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(upgrade_request(self._host, self._port, self._path))
            head = b""
            while b"\r\n\r\n" not in head:
                head += self._received()
            self._tail = head.partition(b"\r\n\r\n")[2]
            token = jwt.encode({"sub": "prober", "exp": int(time.time()) + 3600}, self._secret, algorithm="HS256")
            self._ask(1, b'{"id":1,"connect":{"token":"%b"}}' % token.encode())
        except OSError as error:
            self.close()
            raise BenchError(f"the prober cannot connect: {error}") from error
        self._thread.start()

    def stop(self) -> list[int]:
        """Stop asking; all round trips in ns. Raises BenchError when the connection broke."""
        self._ended.set()
        self._thread.join(TIMEOUT_S)
        self.close()
        if self._failed:
            raise BenchError(f"the prober's connection broke: {self._failed}")
        return self.round_trips_ns

    def close(self) -> None:
        """Harmless when it is closed."""
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        number = 1
        try:
            while not self._ended.wait(self._interval_s):
                number += 1
                begin = time.perf_counter_ns()
                self._ask(number, b'{"id":%d,"ping":{}}' % number)
                self.round_trips_ns.append(time.perf_counter_ns() - begin)
        except (OSError, BenchError) as error:
            self._failed = str(error)

    def _ask(self, number: int, command: bytes) -> None:
        """Send a command and wait for its reply."""
        if self._socket is None:
            raise BenchError("not connected")
        self._socket.sendall(masked(TEXT, command))
        while True:
            chunk = parse(self._tail)
            self._tail = chunk.tail
            if chunk.answers:
                self._socket.sendall(chunk.answers)
            if chunk.closed:
                raise BenchError(f"closed with {chunk.closed}")
            replies = [orjson.loads(document) for document in chunk.documents]
            if any(reply.get("id") == number for reply in replies):
                return
            self._tail += self._received()

    def _received(self) -> bytes:
        data = self._socket.recv(READ_BYTES) if self._socket is not None else b""
        if not data:
            raise BenchError("ended")
        return data
