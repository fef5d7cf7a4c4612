"""Where a server's messages come from, seen from the publisher: Redis, lines on a unix socket, or an HTTP API.

All take all messages of a pass in one write. The generator owns the source, so that the publishing clock and the
receiving clock are the same and nothing has to be told to anyone.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from typing import Protocol

READ_BYTES = 65_536
_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class SourceError(Exception):
    """A message could not be published."""


class Source(Protocol):
    """Publishes messages to one server."""

    def publish(self, messages: Sequence[bytes], group: int) -> None:
        """Hand over all `messages` of `group` in one write. Returns when the kernel has them; answers come later."""

    def fileno(self) -> int:
        """Readable when answers wait for `read_answers`."""

    def read_answers(self) -> None:
        """Take what the other side has answered. Raises `SourceError` when that is an error."""

    def close(self) -> None:
        """Close the socket."""


class RedisSource:
    """`PUBLISH` to a Redis on a unix socket, all messages of a pass in one pipeline; `channels` by group."""

    def __init__(self, path: str, channels: Sequence[str]) -> None:
        self._channels = [channel.encode() for channel in channels]
        self._rest = b""
        self._socket = _connected(path, "Redis")

    def publish(self, messages: Sequence[bytes], group: int) -> None:
        """See `Source`."""
        channel = self._channels[group]
        head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(channel), channel)
        self._socket.sendall(b"".join(head + b"$%d\r\n%b\r\n" % (len(message), message) for message in messages))

    def fileno(self) -> int:
        """See `Source`."""
        return self._socket.fileno()

    def read_answers(self) -> None:
        """See `Source`. Nobody subscribed is an error, too: the server has lost its subscription."""
        received = self._socket.recv(READ_BYTES)
        if not received:
            raise SourceError("Redis closed the publisher's connection")
        *answers, self._rest = (self._rest + received).split(b"\r\n")
        for answer in answers:
            if answer == b":0":
                raise SourceError("a message was published, but no server is subscribed to its Redis channel")
            if not answer.startswith(b":"):
                raise SourceError(f"Redis answered {answer.decode(errors='replace')} to PUBLISH")

    def close(self) -> None:
        """See `Source`."""
        self._socket.close()


class LineSource:
    """One line a message on a unix socket, for the servers that speak no Redis. They answer nothing."""

    def __init__(self, path: str) -> None:
        self._socket = _connected(path, "the server's line socket")

    def publish(self, messages: Sequence[bytes], group: int) -> None:  # noqa: ARG002 - these servers have one group
        """See `Source`."""
        self._socket.sendall(b"".join(message + b"\n" for message in messages))

    def fileno(self) -> int:
        """See `Source`."""
        return self._socket.fileno()

    def read_answers(self) -> None:
        """See `Source`."""
        if not self._socket.recv(READ_BYTES):
            raise SourceError("the server closed its line socket")

    def close(self) -> None:
        """See `Source`."""
        self._socket.close()


class HttpSource:
    """Centrifugo's HTTP API (`/api/batch`), all messages of a pass in one request on one connection."""

    def __init__(self, address: tuple[str, int], path: str, channels: Sequence[str], api_key: str) -> None:
        self._channels = [channel.encode() for channel in channels]
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nX-API-Key: {api_key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._address = address
        self._rest = b""
        self._unanswered = 0
        self._socket = self._connected()
        self.ended = False
        """The API has closed the connection, which was idle: `reconnect` before the next `publish`."""

    def reconnect(self) -> None:
        """Take a new connection; `fileno` changes."""
        self._socket.close()
        self._socket, self.ended, self._rest = self._connected(), False, b""

    def publish(self, messages: Sequence[bytes], group: int) -> None:
        """See `Source`."""
        channel = self._channels[group]
        commands = b",".join(b'{"publish":{"channel":"%b","data":%b}}' % (channel, message) for message in messages)
        body = b'{"commands":[%b]}' % commands
        self._unanswered += 1
        self._socket.sendall(self._head + b"%d\r\n\r\n%b" % (len(body), body))

    def fileno(self) -> int:
        """See `Source`."""
        return self._socket.fileno()

    def read_answers(self) -> None:
        """See `Source`."""
        received = self._socket.recv(READ_BYTES)
        if not received:
            if self._unanswered:
                raise SourceError("the API closed the publisher's connection, and owes an answer")
            self.ended = True
        self._rest += received
        while b"\r\n\r\n" in self._rest:
            head, _, body = self._rest.partition(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise SourceError(f"the API answered {self._rest[:300].decode(errors='replace')}")
            size = _CONTENT_LENGTH.search(head)
            if size is None:
                raise SourceError("the API answers without a Content-Length")
            length = int(size[1])
            if len(body) < length:
                return
            if b'"error"' in body[:length]:
                raise SourceError(f"the API answered {body[:length][:300].decode(errors='replace')}")
            self._rest = body[length:]
            self._unanswered -= 1

    def _connected(self) -> socket.socket:
        host, port = self._address
        try:
            connected = socket.create_connection(self._address, timeout=10)
        except OSError as error:
            raise SourceError(f"cannot connect to the API at {host}:{port}: {error.strerror}") from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def close(self) -> None:
        """See `Source`."""
        self._socket.close()


def _connected(path: str, name: str) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unix.connect(path)
    except OSError as error:
        unix.close()
        raise SourceError(f"cannot connect to {name} at {path}: {error.strerror}") from error
    return unix
