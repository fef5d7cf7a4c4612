"""uvicorn inside an event loop that is not its own: signals and logging stay with the process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from gateway.errors import StartupError

GRACE_S: Final = 3
"""Time that calls in progress have to end when the server stops."""
BACKLOG: Final = 512


class ControlServer(uvicorn.Server):
    """Serves an app on listening sockets. `stop` makes it end after the calls in progress."""

    def __init__(self, app: ASGIApp, listeners: Sequence[socket.socket], on_serving: Callable[[], None]) -> None:
        """`on_serving` is called once requests are accepted. The listeners are closed at the end."""
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._listeners = list(listeners)
        self._on_serving = on_serving

    async def run_until_stopped(self) -> None:
        """Serve until `stop`."""
        await self.serve(sockets=self._listeners)

    def stop(self) -> None:
        """Take no new requests, finish those in progress, return from `run_until_stopped`."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_serving()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signal handlers alone: the process has its own."""
        yield


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, as `localhost` may have two. Port 0 = any free one. Raises StartupError."""
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            listeners.append(socket.create_server(address, family=family, backlog=BACKLOG))
    except OSError as error:
        for listener in listeners:
            listener.close()
        reason = error.strerror or error
        raise StartupError(f"cannot listen on {host}:{port} (control.host, control.port): {reason}") from error
    return listeners
