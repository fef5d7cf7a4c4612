"""The listening sockets of one worker, in a group of workers that share the port (SO_REUSEPORT).

The kernel spreads new connections over the group by hash, whether or not a worker has room. So a worker that is full
leaves the group: it takes what is queued already (and turns it away with 1013), closes its sockets, and opens new ones
when there is room again.

The loop accepts one connection from each listening socket in a pass. That paces a storm, so that it does not starve the
connections that are there; with several sockets, a pass of a storm has enough in it to share the cost of polling, of a
SUBSCRIBE and of writing the log (`make bench`, storm).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

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
    ) -> None:
        self._host = host
        self._port = port
        self._factory = factory
        self._counters = counters
        self._max_connections = max_connections
        self._reopen_below = max_connections - max(1, max_connections // 50)
        self._listening: list[tuple[socket.socket, asyncio.Server]] = []
        self._tasks = TaskScope(self._failed)
        self._opening = False
        self._closed = False
        self._log = get_logger()

    @property
    def listening(self) -> bool:
        return bool(self._listening)

    async def open(self) -> None:
        """Join the group. Raises OSError."""
        for _ in range(SOCKETS):
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listening = socket.socket(family, socket.SOCK_STREAM)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listening.setblocking(False)
                listening.bind((self._host, self._port))
                server = await asyncio.get_running_loop().create_server(self._factory, sock=listening, backlog=BACKLOG)
            except BaseException:
                listening.close()
                self._stop_listening()
                raise
            self._listening.append((listening, server))
        self._counters[names.LISTENING] = 1

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
        """Take what is queued, then stop listening: closing a socket resets what is in its queue."""
        for listening, _ in self._listening:
            while (queued := _accept(listening)) is not None:
                self._tasks.spawn(self._turn_away(queued))
        self._stop_listening()
        self._log.warning("not listening: full", connections=self._counters[names.CONNECTIONS])

    async def _turn_away(self, queued: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._factory, queued)

    def _stop_listening(self) -> None:
        for _, server in self._listening:
            server.close()
        self._listening.clear()
        self._counters[names.LISTENING] = 0

    def _failed(self, error: BaseException) -> None:
        self._log.error("accepting failed", exc_info=error)

    async def aclose(self) -> None:
        """Leave the group for good."""
        self._closed = True
        await self._tasks.aclose()
        self._stop_listening()


def _accept(listening: socket.socket) -> socket.socket | None:
    """The next connection in the queue; None when it is empty."""
    try:
        accepted, _ = listening.accept()
    except OSError:
        return None
    accepted.setblocking(False)
    return accepted
