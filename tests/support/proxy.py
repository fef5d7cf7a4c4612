"""A network between client and gateway that can go dark, or be cut: a TCP proxy."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class Proxy:
    """Forwards bytes both ways until `go_dark`; then it takes everything and forwards nothing, not even an end."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._dark = False
        self._cut = False
        self._server: asyncio.Server | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def go_dark(self) -> None:
        """From now on neither side hears anything of the other, and neither gets a FIN or RST."""
        self._dark = True

    def cut(self) -> None:
        """Reset every connection, and every new one, until `mend`."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        """Take connections again."""
        self._cut = False

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()  # nobody listens there at the moment
            return
        self._writers += [writer, there_writer]
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            self._pumps.append(asyncio.get_running_loop().create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if not self._dark and not sink.is_closing():
                    sink.write(data)
            if not self._dark and not sink.is_closing():
                sink.write_eof()


class Cable:
    """A proxy that runs in a thread of its own, for tests that block. Made by `cable`."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.port = proxy.port

    def cut(self) -> None:
        """As `Proxy.cut`."""
        self._loop.call_soon_threadsafe(self._proxy.cut)

    def mend(self) -> None:
        """As `Proxy.mend`."""
        self._loop.call_soon_threadsafe(self._proxy.mend)


@contextlib.contextmanager
def cable(target_port: int) -> Iterator[Cable]:
    """A network cable to `target_port`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = Proxy(target_port)
    try:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        yield Cable(proxy, loop)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
