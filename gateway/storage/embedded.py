"""The embedded Redis: a private redis-server for development and small single machines, gone with its owner.

It listens on a unix socket in a 0700 folder and on no TCP port, and keeps nothing on disk. Between the owner (the
supervisor) and the server stands a guard process (`guard.py`), so that neither the server nor its folder outlives an
owner that was killed. May touch: that folder, that process. The rule that is easiest to break: the pipe to the guard
is what keeps the server alive; only this process may hold its writing end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from gateway.errors import StartupError
from gateway.log import get_logger
from gateway.processes import wait_exit
from gateway.storage.binary import RedisServer, find_server
from gateway.storage.folder import SOCKET_NAME, claim_folder, embedded_folder
from gateway.storage.guard import remove_folder

CLAIM_TIMEOUT_S = 5.0
"""Time that a predecessor has to finish cleaning up; longer than the guard's stop time-out."""
READY_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 3.0
"""Time between SIGTERM and SIGKILL. There is nothing to save, so a healthy server needs a few milliseconds."""
POLL_INTERVAL_S = 0.02
TAIL_LINES = 20
MAX_CLIENTS = 10_000
RESERVED_FILES = 64
"""Descriptors that redis-server needs beside those of its clients (it wants 32), and the few that it inherits."""
PUBSUB_BUFFER_LIMIT = "128mb 32mb 60"
"""Each edge worker is one pub/sub client. Redis' own limit (32mb 8mb 60) cuts it off in a burst of 32 of the largest
publications; four times as much rides out a long fan-out, while a worker that stays behind by 32 MB for a minute is
stuck and must not take the machine's memory. Cut off, it reconnects, and channels with history miss nothing."""
_WARNING = re.compile(rb"^\d+:[A-Z] .* # (.*)$")


class EmbeddedRedis:
    """One private redis-server. `start` may be called again after it has ended."""

    def __init__(self, public_port: int, *, find: Callable[[], RedisServer] = find_server) -> None:
        self.folder: Path = embedded_folder(public_port)
        self.server: RedisServer | None = None
        """What runs, or ran last."""
        self._public_port = public_port
        self._find = find
        self._guard: subprocess.Popen[bytes] | None = None
        self._output: asyncio.ReadTransport | None = None
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._output_ended = asyncio.Event()
        self._serving = False
        self._log = get_logger()

    @property
    def url(self) -> str:
        """For redis-py: `unix:///…/redis.sock`. The same from before the first start to after the last."""
        return f"unix://{self.folder / SOCKET_NAME}"

    async def start(self) -> None:
        """Start the server and wait until it answers. Raises StartupError; then nothing is left behind."""
        self.server = self.server or self._find()
        lock = await self._claim()
        self._lines.clear()
        self._output_ended.clear()
        try:
            self._guard = subprocess.Popen(  # noqa: ASYNC220, S603 - our own file; vfork, a millisecond
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), *self._guard_arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            remove_folder(str(self.folder))
            raise StartupError(f"cannot start the embedded Redis: {error.strerror}") from error
        finally:
            os.close(lock)
        try:
            self._output, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: _Lines(self._line, self._output_ended), self._guard.stdout
            )
            await self._wait_ready()
        except BaseException:
            await self.stop()
            raise
        self._serving = True

    async def stop(self) -> None:
        """Stop the server and remove its folder. Returns when both are gone; harmless when it does not run."""
        guard = self._guard
        if guard is None:
            return
        self._guard = None
        self._serving = False
        if guard.stdin is not None:
            guard.stdin.close()
        try:
            await asyncio.wait_for(wait_exit(guard), STOP_TIMEOUT_S + 2)
        except TimeoutError:
            guard.kill()  # takes the server with it (PR_SET_PDEATHSIG), but leaves the folder
            guard.wait()
            remove_folder(str(self.folder))
        if self._output is not None:
            self._output.close()
            self._output = None

    async def wait_ended(self) -> str:
        """Wait until the server has ended without having been asked to; what is known about why.

        The caller then calls `stop`, which tidies up, and `start` if it wants to go on.
        """
        if self._guard is None:
            raise RuntimeError("the embedded Redis was not started")
        code = await wait_exit(self._guard)
        self._serving = False
        await self._read_to_end()
        return self._lines[-1] if self._lines and code > 0 else f"its guard process ended with {code}"

    async def _claim(self) -> int:
        """Take the folder; wait for a predecessor that is just cleaning up."""
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                while (lock := claim_folder(self.folder)) is None:  # noqa: ASYNC110 - another process' lock
                    await asyncio.sleep(POLL_INTERVAL_S)
                return lock
        except TimeoutError:
            raise StartupError(
                f"another gateway of this user runs with port {self._public_port} and an embedded Redis "
                f"(in {self.folder}). Stop it, or choose another port with --port."
            ) from None

    async def _wait_ready(self) -> None:
        guard = self._guard
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await self._answers():
                    if guard is not None and guard.poll() is not None:
                        await self._read_to_end()
                        raise StartupError(f"the embedded Redis ended while it started. {self._said()}")
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            raise StartupError(
                f"the embedded Redis did not answer within {READY_TIMEOUT_S:g} s. {self._said()}"
            ) from None

    async def _read_to_end(self) -> None:
        """Once the guard has ended: wait for its last lines, which may still be in the pipe."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output_ended.wait(), 1)

    async def _answers(self) -> bool:
        """One PING."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.folder / SOCKET_NAME))
        except OSError:
            return False  # not yet there, or not yet listening
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _guard_arguments(self) -> list[str]:
        if self.server is None:
            raise RuntimeError("no redis-server was looked for yet")
        return [str(self.folder), f"{STOP_TIMEOUT_S}", self.server.path, *server_options(self.folder)]

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self._lines.append(text)
        if warning := _WARNING.match(line):
            say = self._log.warning if self._serving else self._log.debug  # it warns at each start and stop, too
            say("embedded redis warns", line=warning[1].decode(errors="replace"))

    def _said(self) -> str:
        if not self._lines:
            return f"{self.server} said nothing."
        return "\n  ".join([f"{self.server} said last:", *self._lines])


def server_options(folder: Path) -> list[str]:
    """Command line of the server: reachable through its folder only, nothing on disk, within the file limit."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = MAX_CLIENTS if files == resource.RLIM_INFINITY else max(16, min(MAX_CLIENTS, files - RESERVED_FILES))
    options = {
        "port": "0",
        "unixsocket": str(folder / SOCKET_NAME),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "supervised": "no",
        "logfile": "",
        "maxclients": str(clients),
        "client-output-buffer-limit": f"pubsub {PUBSUB_BUFFER_LIMIT}",
    }
    arguments = []
    for name, value in options.items():
        arguments += [f"--{name}", *(value.split(" ") if name == "client-output-buffer-limit" else [value])]
    return arguments


class _Lines(asyncio.Protocol):
    """Cuts what the guard and the server write into lines."""

    def __init__(self, on_line: Callable[[bytes], None], ended: asyncio.Event) -> None:
        self._on_line = on_line
        self._ended = ended
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)
        self._rest = self._rest[-4096:]

    def connection_lost(self, _error: Exception | None) -> None:
        self._ended.set()
