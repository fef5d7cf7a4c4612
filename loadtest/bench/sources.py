"""Where a server's messages come from, seen from the publisher: a Redis channel, or lines on a unix socket.

Both take all messages of a pass in one write. The generator owns the source, so that the publishing clock and the
receiving clock are the same and nothing has to be told to anyone.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

READ_BYTES = 65_536


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


def _connected(path: str, name: str) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unix.connect(path)
    except OSError as error:
        unix.close()
        raise SourceError(f"cannot connect to {name} at {path}: {error.strerror}") from error
    return unix
