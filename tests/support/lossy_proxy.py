"""A unix socket in front of Redis that loses answers, and cuts requests short, as a dying network does."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path


class LossyProxy:
    """Forwards bytes both ways. Only requests that contain `marker` are tampered with: a client's login is not."""

    def __init__(self, folder: Path, target: str, *, marker: bytes) -> None:
        self.url = f"unix://{folder / 'lossy.sock'}"
        self.answers_to_lose = 0
        """Answers that will be lost: Redis has executed the commands, and the connection breaks instead."""
        self.cuts: list[int] = []
        """The next requests are cut after these numbers of bytes, and the connection breaks."""
        self.broken = 0
        """Connections that were broken."""
        self._target = target.removeprefix("unix://")
        self._marker = marker
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accepted, self.url.removeprefix("unix://"))

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        lose = asyncio.Event()

        async def requests() -> None:
            while data := await reader.read(1_000_000):
                tampered = self._marker in data
                if tampered and self.cuts:
                    there_writer.write(data[: self.cuts.pop(0)])
                    await there_writer.drain()
                    # Redis sees the end behind what it got, and executes that.
                    there_writer.write_eof()
                    lose.set()
                    return
                if tampered and self.answers_to_lose and not lose.is_set():
                    self.answers_to_lose -= 1
                    lose.set()
                there_writer.write(data)

        async def answers() -> None:
            while data := await there_reader.read(1_000_000):
                if lose.is_set():
                    return
                writer.write(data)

        pumps = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        with contextlib.suppress(asyncio.CancelledError):  # by `aclose`
            await pumps[1]  # ends when an answer is to be lost, or Redis has closed
        self.broken += lose.is_set()
        for end in (writer, there_writer):
            end.transport.abort()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
