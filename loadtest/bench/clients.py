"""The generator's WebSocket clients: thousands of raw sockets on one edge-triggered epoll.

No event loop and no object per connection: at 10 µs a delivery on the server's core, the client has to be well below
that, or it would measure itself. Handlers run inside `step`. Connections that are being opened, the command pipe and
the publisher's socket have a handler each; every other descriptor is an open connection and takes the hot path.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import time
from array import array
from collections import Counter
from collections.abc import Callable

from loadtest.bench.chunks import Chunk, ChunkError, parse

READ_BYTES = 16_384
EVENTS_PER_STEP = 512
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""`SO_LINGER` with time 0: no TIME_WAIT that would use up this machine's ports."""

GROUPS = 2
"""Groups of connections that a generator can tell apart."""

ANY = -1
"""A connection that comes while messages are published cannot know which one is its first."""

Handler = Callable[[int], None]


class Clients:
    """Open connections, what each has received, and the loop that reads them.

    `received` counts messages by group; `wrong` names what happened besides, by count (lost and doubled messages,
    closed connections). A sequence gap counts every missing message once.
    """

    def __init__(self) -> None:
        self.received = [0] * GROUPS
        self.wrong: Counter[str] = Counter()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._next: list[int] = []
        self._tails: dict[int, bytes] = {}
        self._seen: dict[int, tuple[bytes, Chunk]] = {}
        # The last that came again; at first what nothing equals, not even b"", the end of a connection.
        self._same: tuple[bytes | None, Chunk] = None, Chunk()
        self._ping = self._pong = b""  # the last chunk that was nothing but a ping, and its answer
        self._recorded_group = -1
        self._latencies_ns = array("q")
        self._paused: set[int] = set()

    def __len__(self) -> int:
        return len(self._sockets)

    def watch(self, fd: int, handler: Handler, events: int = select.EPOLLIN) -> None:
        """Call `handler` with the epoll events of `fd`, which is not a client connection (yet)."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`."""
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def adopt(self, client: socket.socket, tail: bytes, next_sequence: int) -> None:
        """Take over a connection whose opening is done. It is watched already; `tail` are bytes that it has received
        after its last whole frame; `next_sequence` is what its channel's next message carries, or `ANY`."""
        fd = client.fileno()
        del self._handlers[fd]
        self._sockets[fd] = client
        if fd >= len(self._next):
            self._next.extend([0] * (fd + 1 - len(self._next)))
        self._next[fd] = next_sequence
        if tail:
            self._take(fd, tail)

    def record(self, group: int) -> None:
        """Start recording publish → receive times of one group's messages; -1 stops."""
        self._recorded_group = group
        if group >= 0:
            self._latencies_ns = array("q")

    def sorted_latencies_ns(self) -> list[int]:
        """The times recorded since `record`, ascending."""
        return sorted(self._latencies_ns)

    def step(self, timeout_s: float) -> bool:
        """Wait for events and handle one batch. The hot path: once a delivery. False = there were none."""
        handlers, read, tails, following, now = self._handlers, os.read, self._tails, self._next, time.monotonic_ns
        same, chunk = self._same
        heard: list[int] = []  # when `same` came, on connections that it was next for
        hear = heard.append
        batch = self._epoll.poll(timeout_s, EVENTS_PER_STEP)
        for fd, events in batch:
            if fd in handlers:
                self._hear(chunk, heard)
                handlers[fd](events)
                same, chunk = self._same
                continue
            try:
                data = read(fd, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                self._lose(fd, f"connection lost: {error.strerror}")
                continue
            if data == same and following[fd] == chunk.first and fd not in tails:
                following[fd] = chunk.last + 1
                hear(now())
                continue
            self._hear(chunk, heard)
            known = self._seen.get(len(data))
            if known is not None and known[0] == data and fd not in tails:
                if len(data) < READ_BYTES:
                    self._same = known
                self._count(fd, known[1])
            elif data:
                self._take(fd, data)
            else:
                self._lose(fd, "connection closed without a close frame")
            if len(data) == READ_BYTES:  # edge-triggered: there may be more, and nobody would say so
                self._drain(fd)
            same, chunk = self._same
        self._hear(chunk, heard)
        return bool(batch)

    def close_oldest(self, count: int) -> int:
        """Reset the `count` connections that have been there longest. Returns how many there were."""
        oldest = list(itertools.islice(self._sockets, count))
        for fd in oldest:
            self._forget(fd)
        return len(oldest)

    def close(self, keep: int = 0) -> int:
        """Reset all connections but the `keep` oldest, and forget what went wrong. Returns how many are closed."""
        leaving = list(self._sockets)[keep:]
        self.wrong.clear()
        for fd in leaving:
            self._forget(fd)
        return len(leaving)

    def pause(self, count: int) -> list[int]:
        """Stop reading the `count` newest connections. Returns them, for `resume`."""
        paused = list(self._sockets)[-count:]
        for fd in paused:
            self._epoll.unregister(fd)
        self._paused.update(paused)
        return paused

    def resume(self, paused: list[int]) -> None:
        """Read them again, at once: a connection that has ended meanwhile would not say so after its last bytes."""
        for fd in paused:
            self._paused.discard(fd)
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
            self._drain(fd)

    def still_open(self, fds: list[int]) -> int:
        """How many of these connections are."""
        return sum(fd in self._sockets for fd in fds)

    def _drain(self, fd: int) -> None:
        while fd in self._sockets:
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(fd, f"connection lost: {error.strerror}")
                return
            if not data:
                self._lose(fd, "connection closed without a close frame")
                return
            self._take(fd, data)

    def _take(self, fd: int, data: bytes) -> None:
        """Parse bytes that are not the same as the last ones of this length."""
        whole = self._tails.pop(fd, b"") + data
        if whole == self._ping:
            self._answer(fd, self._pong)
            return
        try:
            chunk = parse(whole)
        except ChunkError as error:
            self._lose(fd, str(error))
            return
        if chunk.tail:
            self._tails[fd] = chunk.tail
        if chunk.messages and chunk.in_order and not (chunk.tail or chunk.answers or chunk.closed):
            self._seen[len(whole)] = (whole, chunk)
        if chunk.messages:
            self._count(fd, chunk)
        if chunk.documents:
            self.wrong[f"unexpected: {chunk.documents[0][:120]!r}"] += 1
        if chunk.answers:
            if not (chunk.messages or chunk.documents or chunk.closed or chunk.tail):
                self._ping, self._pong = whole, chunk.answers
            self._answer(fd, chunk.answers)
        if chunk.closed:
            self._lose(fd, f"closed by the server with code {chunk.closed}")

    def _answer(self, fd: int, pong: bytes) -> None:
        try:
            os.write(fd, pong)
        except OSError as error:
            self._lose(fd, f"a ping could not be answered: {error.strerror}")

    def _count(self, fd: int, chunk: Chunk) -> None:
        missing = chunk.first - self._next[fd] if self._next[fd] != ANY else 0
        if missing > 0:
            self.wrong["messages missing"] += missing
        elif missing < 0:
            self.wrong["messages received twice or out of order"] += 1
        if not chunk.in_order:
            self.wrong["chunks with messages out of order"] += 1
        self._next[fd] = chunk.last + 1
        self.received[chunk.group] += chunk.messages
        if chunk.group == self._recorded_group:
            self._take_times(chunk, [time.monotonic_ns()])

    def _hear(self, chunk: Chunk, heard: list[int]) -> None:
        """Count a chunk that came at each of these times, and forget the times."""
        if heard:
            self.received[chunk.group] += chunk.messages * len(heard)
            if chunk.group == self._recorded_group:
                self._take_times(chunk, heard)
            heard.clear()

    def _take_times(self, chunk: Chunk, heard: list[int]) -> None:
        for time_ns in chunk.times_ns:
            self._latencies_ns.extend([heard_ns - time_ns for heard_ns in heard])

    def _lose(self, fd: int, reason: str) -> None:
        if fd in self._sockets:
            self.wrong[reason] += 1
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        client = self._sockets.pop(fd)
        self._tails.pop(fd, None)
        if fd in self._paused:
            self._paused.discard(fd)
        else:
            self._epoll.unregister(fd)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client.close()
