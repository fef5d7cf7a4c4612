"""The listening sockets of one worker, in a group of workers that share the port (SO_REUSEPORT).

The kernel spreads new connections over the group by hash, whether or not a worker has room. So a worker that is full
leaves the group: it takes what is queued already (and turns it away with 1013), closes its sockets, and opens new ones
when there is room again.

A successor of this worker goes on with copies of its sockets, and their queues: then closing them here loses nobody.

The loop accepts one connection from each listening socket in a pass. That paces a storm, so that it does not starve the
connections that are there; with several sockets, a pass of a storm has enough in it to share the cost of polling, of a
SUBSCRIBE and of writing the log (`make bench`, storm).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from gateway.edge.tls import Accepting
from gateway.log import get_logger
from gateway.metrics import names
from gateway.tasks import TaskScope

BACKLOG = 4096
"""Connections that may wait on one socket for the loop; the kernel caps it at net.core.somaxconn."""
SOCKETS = 16
"""Listening sockets, and so connections accepted in one pass of the loop."""


class Listener:
    """Accepts connections while there is room."""

    def __init__(
        self,
        host: str,
        port: int,
        factory: Callable[[], asyncio.Protocol],
        counters: memoryview[int],
        *,
        max_connections: int,
        secure: Callable[[socket.socket], None] | None = None,
    ) -> None:
        """`secure` takes accepted sockets through TLS to what `factory` makes; None = there is no TLS."""
        self._host = host
        self._port = port
        self._factory = factory
        self._counters = counters
        self._max_connections = max_connections
        self._secure = secure
        self._reopen_below = max_connections - max(1, max_connections // 50)
        self._listening: list[tuple[socket.socket, Accepting | asyncio.Server]] = []
        self._tasks = TaskScope(self._failed)
        self._taken = TaskScope(self._failed)
        self._opening = False
        self._closed = False
        self._log = get_logger()

    @property
    def listening(self) -> bool:
        return bool(self._listening)

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets; none while the worker is full."""
        return [listening for listening, _ in self._listening]

    async def open(self, inherited: Sequence[int] = ()) -> None:
        """Join the group, with the listening sockets of a predecessor if there are any. Raises OSError."""
        adopted = [socket.socket(fileno=fd) for fd in inherited]
        for number in range(max(SOCKETS, len(adopted))):
            listening = adopted[number] if number < len(adopted) else self._new_socket()
            try:
                listening.setblocking(False)
                server = await self._serve(listening)
            except BaseException:
                listening.close()
                self._stop_listening()
                raise
            self._listening.append((listening, server))
        self._counters[names.LISTENING] = 1

    async def _serve(self, listening: socket.socket) -> Accepting | asyncio.Server:
        if self._secure is not None:
            accepting = Accepting(listening, self._secure)
            accepting.begin(BACKLOG)
            return accepting
        return await asyncio.get_running_loop().create_server(self._factory, sock=listening, backlog=BACKLOG)

    def _new_socket(self) -> socket.socket:
        listening = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((self._host, self._port))
        except OSError:
            listening.close()
            raise
        return listening

    def connections_changed(self) -> None:
        """Called with every connection that comes or goes: leave the group when full, rejoin when there is room."""
        count = self._counters[names.CONNECTIONS]
        if self._listening and count >= self._max_connections and not self._opening:
            self._leave()
        elif not self._listening and count < self._reopen_below and not self._opening and not self._closed:
            self._opening = True
            self._tasks.spawn(self._rejoin())

    async def _rejoin(self) -> None:
        try:
            await self.open()
            self._log.info("listening again", connections=self._counters[names.CONNECTIONS])
        except OSError as error:
            self._log.error("cannot listen", error=str(error))
        finally:
            self._opening = False

    def _leave(self) -> None:
        self._take_queued()
        self._stop_listening()
        self._log.warning("not listening: full", connections=self._counters[names.CONNECTIONS])

    def _take_queued(self) -> None:
        """Before a socket is closed for good: closing it resets what is in its queue."""
        for listening, _ in self._listening:
            while (queued := _accept(listening)) is not None:
                if self._secure is not None:
                    self._secure(queued)
                else:
                    self._taken.spawn(self._take(queued))

    async def _take(self, queued: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._factory, queued)

    def _stop_listening(self) -> None:
        for _, server in self._listening:
            server.close()
        self._listening.clear()
        self._counters[names.LISTENING] = 0

    def _failed(self, error: BaseException) -> None:
        self._log.error("accepting failed", exc_info=error)

    async def aclose(self, *, handed_over: bool = False) -> None:
        """Leave the group for good. What is queued is taken, unless the sockets were `handed_over`."""
        self._closed = True
        await self._tasks.aclose()
        if not handed_over:
            self._take_queued()
        self._stop_listening()


def _accept(listening: socket.socket) -> socket.socket | None:
    """The next connection in the queue; None when it is empty."""
    try:
        accepted, _ = listening.accept()
    except OSError:
        return None
    accepted.setblocking(False)
    return accepted
