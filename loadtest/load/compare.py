"""`python -m loadtest.load.compare`: what a received publication costs a client under gevent, read in three ways.

One sends over a socket pair, one reads, in one process; what sending and bare reading cost is taken off.
"""

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import socket  # noqa: E402 - after it is cooperative
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Final  # noqa: E402

import gevent  # noqa: E402
import websocket  # noqa: E402
from websockets.client import ClientProtocol  # noqa: E402
from websockets.protocol import State  # noqa: E402
from websockets.uri import parse_uri  # noqa: E402

from loadtest.bench.chunks import TEXT, parse, unmasked  # noqa: E402
from loadtest.bench.messages import message  # noqa: E402

MESSAGES: Final = 50_000
READ_BYTES: Final = 16_384
FRAME: Final = unmasked(TEXT, b'{"push":{"channel":"news","pub":{"data":' + message(1, 1, 0) + b"}}}")


def send(sending: socket.socket) -> None:
    """All messages, ten at a time."""
    for _ in range(MESSAGES // 10):
        for _ in range(10):
            sending.sendall(FRAME)
        gevent.sleep(0)
    sending.close()


def bare(reading: socket.socket) -> int:
    """Reads and forgets."""
    while reading.recv(READ_BYTES):
        pass
    return MESSAGES


def chunks(reading: socket.socket) -> int:
    """The parser of the benchmark."""
    tail, count = b"", 0
    while data := reading.recv(READ_BYTES):
        chunk = parse(tail + data)
        tail, count = chunk.tail, count + chunk.messages
    return count


def sans_io(reading: socket.socket) -> int:
    """`websockets`' protocol without its sockets; it believes that the handshake is over."""
    protocol, count = ClientProtocol(parse_uri("ws://localhost/")), 0
    protocol.state = State.OPEN
    protocol.parser = super(ClientProtocol, protocol).parse()
    next(protocol.parser)
    while data := reading.recv(READ_BYTES):
        protocol.receive_data(data)
        count += len(protocol.events_received())
    return count


def websocket_client(reading: socket.socket) -> int:
    """The package of that name."""
    client, count = websocket.WebSocket(), 0
    client.sock, client.connected = reading, True
    try:
        while True:
            client.recv()
            count += 1
    except websocket.WebSocketConnectionClosedException:
        return count


def measure(read: Callable[[socket.socket], int]) -> float:
    """CPU of sending and reading, in µs a message."""
    sending, reading = socket.socketpair()
    begin = time.process_time()
    sender, reader = gevent.spawn(send, sending), gevent.spawn(read, reading)
    gevent.joinall([sender, reader], raise_error=True)
    used_s = time.process_time() - begin
    reading.close()
    if reader.value != MESSAGES:
        raise RuntimeError(f"{read.__name__} has read {reader.value} of {MESSAGES} messages")
    return 1e6 * used_s / MESSAGES


def main() -> int:
    """Print a line for each."""
    least = measure(bare)
    for read in (chunks, sans_io, websocket_client):
        print(f"{read.__name__:17} {measure(read) - least:5.1f} µs a message")
    return 0


if __name__ == "__main__":
    sys.exit(main())
