"""Processes of the gateway and the link between the supervisor and a worker. A leaf: imports nothing of the gateway.

The supervisor starts `python -m <module> --link-fd <n>`; `n` is one end of a socket pair. Over it the supervisor
first sends one `WorkerSpec`, then both sides send small messages, each a line of JSON:

    supervisor → worker   WorkerSpec, then HandOver when a successor is about to start, then Drain
    worker → supervisor   Ready once it serves, or Failed with the reason why it cannot

HandOver is answered on a second socket pair with copies of the listening sockets: while somebody holds them, no
connection that waits in their queues is reset.

Secrets travel here and nowhere else: not in arguments, and children get the environment without `GATEWAY_*`.
The rule that is easiest to break: the supervisor's end must be held by the supervisor alone. Its closing, by whatever
death, is how a worker learns that it has to go, so no other process may inherit it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

ORPHAN_GRACE_S = 1.0
"""Time that a worker has for a polite end once its supervisor is gone; then it ends whatever it is doing."""
EXIT_ORPHANED = 72
"""Exit status of a worker that had to be ended that way. Nobody is left to read it but a debugger."""
MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest message on a link; only a configuration with a hundred thousand namespaces comes near."""
MAX_SOCKETS = 253
"""File descriptors that one message on a Unix socket can carry (SCM_MAX_FD of Linux)."""
POLL_INTERVAL_S = 0.05
"""Time between two looks at a child where the kernel has no pidfd (Linux < 5.3, some sandboxes)."""

WorkerKind = Literal["edge", "control"]


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a worker has to know, and the only place it has it from: it reads no file and no environment.

    `config` is a validated `Config` as JSON values, with everything resolved that the file may leave open: the ports
    (never 0), `redis.url` (never empty), `server.workers`, and `limits.max_connections` within the file limit.
    """

    kind: WorkerKind
    slot: int
    """Row in the counter table, 0 … N-1; -1 for the control process, which has none."""
    node: str
    """Name of this gateway in the fleet, drawn anew at each start of the supervisor."""
    config: dict[str, Any]
    counters_fd: int
    """File descriptor of the `CounterTable`; it stays open for the life of the process."""
    counters_rows: int
    generations: int = 1
    """Rows that each worker's name has in the table: it and its successor run side by side during a roll."""
    listening: list[int] = []
    """File descriptors of listening sockets to go on with; empty = open new ones."""
    handover_fd: int = -1
    """Where `HandOver` is answered; -1 = this process has no listening sockets of its own."""

    @property
    def name(self) -> str:
        """For logs and people: `edge-1` … `edge-N`, `control`."""
        return f"edge-{self.slot // self.generations + 1}" if self.kind == "edge" else "control"

    def __repr__(self) -> str:
        """Without the configuration: it holds secrets."""
        return f"WorkerSpec({self.name}, node={self.node!r})"


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Worker → supervisor: it serves."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Worker → supervisor: it cannot start, or has to end, and this is why."""

    reason: str


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Supervisor → worker: take nothing new, close what is there over `window_s` seconds, end with status 0."""

    window_s: float
    succeeded: bool = False
    """A successor serves."""
    handed_over: bool = False
    """It listens on copies of this worker's sockets: leave to it what waits in their queues."""


class HandOver(msgspec.Struct, frozen=True, tag="hand_over"):
    """Supervisor → worker: send copies of your listening sockets to `handover_fd`, and go on."""


FromWorker = Ready | Failed
ToWorker = Drain | HandOver


class SupervisorEnd:
    """The supervisor's end of one worker's link. `open` it on the loop that uses it; `aclose` it in any case."""

    __slots__ = ("_decoder", "_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.json.Decoder(FromWorker)

    @classmethod
    async def open(cls, sock: socket.socket) -> SupervisorEnd:
        """Take over `sock`, the supervisor's half of a `socket.socketpair()`."""
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES))

    def send(self, message: WorkerSpec | ToWorker) -> None:
        """Send without waiting. A worker that is gone gets nothing; its end is seen elsewhere, so that is no error."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def receive(self) -> FromWorker | None:
        """The worker's next message; None once its end is closed. Raises msgspec.DecodeError on anything else."""
        line = await _read_line(self._reader)
        return self._decoder.decode(line) if line is not None else None

    async def aclose(self) -> None:
        """Close the link. A worker that still runs takes this as the loss of its supervisor."""
        await _close(self._writer)


class WorkerEnd:
    """The worker's end of its link: what it has to do, and when to stop.

    `stop` is set when the worker has to end: asked by the supervisor, by SIGTERM (the entry point calls
    `request_stop`), or because the supervisor is gone. `drain` then says how: a window of 0 = at once.
    `lost` is set in the last case only: `ORPHAN_GRACE_S` later a thread ends the process, however busy its loop is.
    `listening` is asked for the sockets that a successor gets.
    """

    __slots__ = (
        "_reader",
        "_reading",
        "_watch",
        "_writer",
        "drain",
        "listening",
        "lost",
        "spec",
        "stop",
    )

    def __init__(
        self, spec: WorkerSpec, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watch: _OrphanWatch
    ) -> None:
        self.spec = spec
        self.stop = asyncio.Event()
        self.drain = Drain(0.0)
        self.lost = asyncio.Event()
        self.listening: Callable[[], Sequence[socket.socket]] = tuple
        self._reader = reader
        self._writer = writer
        self._watch = watch
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, fd: int, *, grace_s: float = ORPHAN_GRACE_S) -> WorkerEnd:
        """Take over `fd` and read the spec. Raises ConnectionError when the supervisor is gone before it sent one."""
        sock = socket.socket(fileno=fd)
        sock.set_inheritable(False)
        watch = _OrphanWatch(sock, grace_s)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES)
        line = await _read_line(reader)
        if line is None:
            watch.close()
            await _close(writer)
            raise ConnectionError("the supervisor closed the link before it said what to do")
        end = cls(msgspec.json.decode(line, type=WorkerSpec), reader, writer, watch)
        end._reading = asyncio.get_running_loop().create_task(end._read())
        return end

    def ready(self) -> None:
        """Tell the supervisor that this worker serves."""
        self._send(Ready())

    def failed(self, reason: str) -> None:
        """Tell the supervisor why this worker cannot go on. The process should end after that."""
        self._send(Failed(reason))

    def request_stop(self, drain: Drain) -> None:
        """Set `stop`, and how. Only the first request counts."""
        if not self.stop.is_set():
            self.drain = drain
            self.stop.set()

    async def aclose(self) -> None:
        """Close the link, the last thing that a worker does. Harmless when it is closed."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._watch.close()
        await _close(self._writer)

    async def _read(self) -> None:
        decoder = msgspec.json.Decoder(ToWorker)
        try:
            while (line := await _read_line(self._reader)) is not None:
                message = decoder.decode(line)
                if isinstance(message, HandOver):
                    send_sockets(self.spec.handover_fd, self.listening())
                else:
                    self.request_stop(message)
        finally:
            # Also after a message that is none: a supervisor that cannot be understood is as good as gone.
            self.lost.set()
            self.request_stop(Drain(0.0))

    def _send(self, message: FromWorker) -> None:
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")


class _OrphanWatch:
    """A thread that ends the process some time after the other end of `sock` was closed.

    A thread, because the loop may be busy when it matters. It sleeps in `poll` until then and takes no data: with an
    empty event mask the kernel reports the hang-up only.
    """

    __slots__ = ("_cancel", "_fd", "_grace_s", "_thread", "_woken")

    def __init__(self, sock: socket.socket, grace_s: float) -> None:
        self._fd = os.dup(sock.fileno())
        self._grace_s = grace_s
        self._cancel, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="orphan-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. The process is on its own then. Harmless when it was called before."""
        if not self._thread.is_alive():
            return
        self._cancel.close()
        self._thread.join()
        self._woken.close()
        os.close(self._fd)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._fd, 0)
        poll.register(self._woken, 0)
        while self._fd not in (hung_up := [fd for fd, _ in poll.poll()]):
            if self._woken.fileno() in hung_up:
                return
        poll.unregister(self._fd)
        if not poll.poll(self._grace_s * 1000):
            os._exit(EXIT_ORPHANED)


def send_sockets(fd: int, sockets: Sequence[socket.socket]) -> None:
    """Send copies of `sockets` over the Unix socket `fd`; one byte says that these are all, however many."""
    with socket.socket(fileno=os.dup(fd)) as channel, contextlib.suppress(OSError):  # gone: so is the supervisor
        channel.setblocking(False)
        socket.send_fds(channel, [b"."], [each.fileno() for each in sockets])


async def receive_sockets(channel: socket.socket, timeout_s: float) -> list[int] | None:
    """File descriptors that `send_sockets` sent to the other end of `channel`; None when nothing comes in time."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(channel.fileno(), _resolve(readable))
    try:
        await asyncio.wait_for(readable, timeout_s)
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(channel.fileno())
    return list(socket.recv_fds(channel, 1, MAX_SOCKETS, socket.MSG_CMSG_CLOEXEC)[1])


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs `module` with this interpreter.

    `-P` keeps the current folder off the import path: a project that is served from its own folder may well have a
    package `gateway` in it. `child_environment` gives the child our own import path instead.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """Our environment without `GATEWAY_*` (a child has its configuration from its link), with our import path."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY_")}
    path = [os.path.abspath(entry) for entry in sys.path if entry and os.pathsep not in entry]
    return environment | {"PYTHONPATH": os.pathsep.join(path)}


async def wait_exit(process: subprocess.Popen[bytes]) -> int:
    """Wait until `process` has ended; its return code as `Popen` has it (negative = killed by that signal).

    Any number of tasks may wait. Through a pidfd, which works alike on asyncio and uvloop and needs neither a SIGCHLD
    handler nor a thread for each child.
    """
    if (code := process.poll()) is not None:
        return code
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while (code := process.poll()) is None:  # noqa: ASYNC110 - nothing sets an event for us here
            await asyncio.sleep(POLL_INTERVAL_S)
        return code
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(pidfd, _resolve(ended))
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return process.wait()


def _resolve(future: asyncio.Future[None]) -> Callable[[], None]:
    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    return resolve


async def _read_line(reader: asyncio.StreamReader) -> bytes | None:
    """The next line; None at the end, also when it comes in the middle of a line."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return None
    return line if line.endswith(b"\n") else None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        return  # the other side was faster
