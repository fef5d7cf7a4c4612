"""TLS on the public port: handshakes, and a certificate that is renewed under way.

Connections are accepted here and not by a server of the loop's: so a handshake that fails is seen, counted and nothing
else, one that is under way is known to whoever drains, and the next one uses the newest certificate. What comes after
the handshake is a transport like any other: `gateway.edge.connection` does not know about TLS. Its send budget counts
what TLS has not sent; closing sends close_notify, and who does not answer it is reset after the close time-out.

Who does the work: `aiofastnet` if it is installed (extra `tls`), else uvloop itself. `python -m loadtest.tls`, ECDSA
P-256, OpenSSL 3.0, 1,000 connections, CPU of the server (2026-11-24, 2 cores, shared; two runs each):

                 handshakes per CPU second   memory per connection   delivery of 100 bytes
    plain                           50,000                 1.1 KiB              5.8-6.4 us
    uvloop                     2,500-2,700                24.2 KiB            11.4-12.7 us
    aiofastnet                 2,440-2,630                26.9 KiB              9.6-9.7 us

A gateway delivers far more often than it shakes hands, so the cheaper delivery decides. Its own server was not taken:
it accepts all that is queued in one pass of the loop, which is what `gateway.edge.listener` is there to prevent.

The rule that is easiest to break: a certificate that cannot be used never replaces one that can.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.config import Server, load_certificate
from gateway.log import get_logger
from gateway.metrics import names
from gateway.tasks import TaskScope

CHECK_S: Final = 60.0
"""Time between two looks at the files of the certificate."""

Factory = Callable[[], asyncio.Protocol]
Connect = Callable[[Factory, socket.socket, ssl.SSLContext, float, float], Coroutine[Any, Any, None]]
"""Factory, socket, context, time-outs of handshake and shutdown. Raises OSError when the handshake fails."""


async def connect_uvloop(
    factory: Factory, accepted: socket.socket, context: ssl.SSLContext, handshake_s: float, shutdown_s: float
) -> None:
    """By the running loop's own TLS."""
    await asyncio.get_running_loop().connect_accepted_socket(
        factory, accepted, ssl=context, ssl_handshake_timeout=handshake_s, ssl_shutdown_timeout=shutdown_s
    )


async def connect_aiofastnet(
    factory: Factory, accepted: socket.socket, context: ssl.SSLContext, handshake_s: float, shutdown_s: float
) -> None:
    """By aiofastnet's."""
    import aiofastnet  # noqa: PLC0415 - optional

    await aiofastnet.connect_accepted_socket(
        asyncio.get_running_loop(),
        factory,
        accepted,
        ssl=context,
        ssl_handshake_timeout=handshake_s,
        ssl_shutdown_timeout=shutdown_s,
    )


def best_connect() -> Connect:
    """The better one of those that are installed."""
    return connect_aiofastnet if importlib.util.find_spec("aiofastnet") else connect_uvloop


class Tls:
    """Handshakes of one worker."""

    def __init__(
        self,
        server: Server,
        factory: Factory,
        counters: memoryview[int],
        *,
        handshake_s: float,
        shutdown_s: float,
        connect: Connect | None = None,
    ) -> None:
        """Reads the certificate. Raises ValueError, with what is wrong with it."""
        self._server = server
        self._factory = factory
        self._counters = counters
        self._handshake_s = handshake_s
        self._shutdown_s = shutdown_s
        self._connect = connect or best_connect()
        self._seen = self._look()
        self._context = load_certificate(server)
        self._log = get_logger()
        self._handshakes = TaskScope(self._failed)

    @property
    def under_way(self) -> int:
        """Handshakes that are not done."""
        return len(self._handshakes)

    def accept(self, accepted: socket.socket) -> None:
        """Start the handshake on a socket that was accepted."""
        self._handshakes.spawn(self._shake_hands(accepted))

    async def watch(self, check_s: float = CHECK_S) -> None:
        """Use a new certificate once its files are there. Runs until cancelled."""
        while True:
            await asyncio.sleep(check_s)
            self.renew()

    def renew(self) -> None:
        """Look at the files; if they have changed, use what is in them from the next handshake on."""
        if (seen := self._look()) == self._seen:
            return
        self._seen = seen
        try:
            self._context = load_certificate(self._server)
        except ValueError as error:
            self._log.warning("certificate not renewed", problem=str(error), in_use="the one before")
        else:
            self._log.info("certificate renewed", file=self._server.tls_cert)

    async def aclose(self) -> None:
        """End the handshakes that are under way."""
        await self._handshakes.aclose()

    async def _shake_hands(self, accepted: socket.socket) -> None:
        try:
            await self._connect(self._factory, accepted, self._context, self._handshake_s, self._shutdown_s)
        except OSError as error:  # TLS errors are some, too
            self._counters[names.REFUSED_TLS] += 1
            self._log.debug("tls handshake failed", error=str(error))

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """What shows that a file is another one; nothing for one that is not there."""
        found = []
        for file in (self._server.tls_cert, self._server.tls_key):
            try:
                state = os.stat(file)
            except OSError:
                continue
            found.append((state.st_mtime_ns, state.st_ino, state.st_size))
        return tuple(found)

    def _failed(self, error: BaseException) -> None:
        self._log.error("tls failed", exc_info=error)


class Accepting:
    """Accepts from one listening socket, one connection in a pass of the loop."""

    __slots__ = ("_listening", "_loop", "_take")

    def __init__(self, listening: socket.socket, take: Callable[[socket.socket], None]) -> None:
        self._listening = listening
        self._take = take
        self._loop = asyncio.get_running_loop()

    def begin(self, backlog: int) -> None:
        """Raises OSError."""
        self._listening.listen(backlog)
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Stop, and close the socket."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except BlockingIOError:
            return  # another worker on the same socket was faster
        except OSError as error:
            # No file descriptor or memory left: look again in a moment instead of at once.
            get_logger().error("accepting failed", error=str(error))
            self._loop.remove_reader(self._listening)
            self._loop.call_later(0.25, self._again)
            return
        accepted.setblocking(False)
        self._take(accepted)

    def _again(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)
