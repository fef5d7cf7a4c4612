"""One worker process, from its start to its end, as the supervisor sees it.

Workers run in a session of their own: Ctrl-C, Ctrl-Z and the closing of a terminal go to a whole process group, and it
is the supervisor who decides what they mean. No orphan follows from that, since a worker ends with its link. The rule
that is easiest to break: whoever called `start` awaits `aclose`, in any case; it reaps the process.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import msgspec

from gateway.log import get_logger
from gateway.processes import (
    Drain,
    Failed,
    HandOver,
    SupervisorEnd,
    child_environment,
    python_command,
    receive_sockets,
    wait_exit,
)

if TYPE_CHECKING:
    from gateway.processes import WorkerSpec

HANG_UP_S = 2.0
"""A worker's link and its process end together, in either order. This is how long one may outlive the other."""


class Worker:
    """A process that runs `module` with `spec`."""

    __slots__ = ("_handover", "_link", "_module", "_process", "_reading", "_ready", "reason", "spec")

    def __init__(self, spec: WorkerSpec, module: str) -> None:
        self.spec = spec
        self.reason = ""
        """What the worker said about why it ends; "" = nothing."""
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._link: SupervisorEnd | None = None
        self._handover: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_ready(self) -> bool:
        """Whether it has ever said so."""
        return self._ready.is_set()

    async def start(self) -> None:
        """Start the process and send its spec. Raises OSError when the machine has no process or memory left."""
        ours, theirs = socket.socketpair()
        self._handover, sending = socket.socketpair()
        self.spec = msgspec.structs.replace(self.spec, handover_fd=sending.fileno())
        try:
            with theirs, sending:
                self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - vfork, a millisecond; our own interpreter
                    python_command(self._module, "--link-fd", str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), sending.fileno(), self.spec.counters_fd, *self.spec.listening],
                    env=child_environment(),
                    start_new_session=True,
                )
            self._link = await SupervisorEnd.open(ours)
        except BaseException:
            ours.close()
            await self.aclose()
            raise
        self._link.send(self.spec)
        self._reading = asyncio.get_running_loop().create_task(self._read(self._link))

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it serves. False = its link closed before; or the time is over, and it was killed for that."""
        reading, ready = self._reading, asyncio.ensure_future(self._ready.wait())
        if reading is None:
            raise RuntimeError("the worker was not started")
        try:
            done, _ = await asyncio.wait({reading, ready}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not done:
            self.reason = f"not ready within {timeout_s:g} s"
            self.kill()
        return self.is_ready

    async def wait_ended(self) -> int:
        """Wait until the process has ended and all that it said has been read; its return code.

        One that has closed its link and goes on is killed: it cannot be told anything any more.
        """
        process, reading = self._running(), self._reading
        if reading is None:
            raise RuntimeError("the worker was not started")
        exiting = asyncio.ensure_future(wait_exit(process))
        try:
            await asyncio.wait({exiting, reading}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({exiting, reading}, timeout=HANG_UP_S)
            if not exiting.done():
                process.kill()
            return await exiting
        finally:
            exiting.cancel()

    async def hand_over(self, timeout_s: float) -> list[int]:
        """Descriptors of its listening sockets, the caller's to close; empty when it has none or does not answer."""
        if self._link is None or self._handover is None or not self.is_ready:
            return []
        self._link.send(HandOver())
        sockets = await receive_sockets(self._handover, timeout_s)
        if sockets is None:
            get_logger(worker=self.spec.name).warning(
                "worker keeps its listening sockets", pid=self.pid, reason=f"no answer within {timeout_s:g} s"
            )
        return sockets or []

    def drain(self, window_s: float, *, succeeded: bool = False, handed_over: bool = False) -> None:
        """Ask it to close its clients over `window_s` and end. One that does not serve yet gets SIGTERM instead.

        `succeeded`: a successor serves. `handed_over`: what waits in the queues of the listening sockets is that one's.
        """
        if self.is_ready and self._link is not None:
            self._link.send(Drain(window_s, succeeded, handed_over))
        else:
            self._running().terminate()

    def kill(self) -> None:
        """End it now. Harmless when it has ended."""
        self._running().kill()

    async def aclose(self) -> None:
        """Kill it if it still runs, reap it, close its link."""
        if self._process is not None:
            self._process.kill()
            await asyncio.shield(wait_exit(self._process))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._link is not None:
            await self._link.aclose()
        if self._handover is not None:
            self._handover.close()

    async def _read(self, link: SupervisorEnd) -> None:
        try:
            while (message := await link.receive()) is not None:
                if isinstance(message, Failed):
                    self.reason = message.reason
                else:
                    self._ready.set()
        except (msgspec.DecodeError, ValueError) as error:
            self.reason = f"sent what is no message on its link: {error}"
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return self._process


def describe_exit(code: int) -> str:
    """A return code in words: `status 3`, `signal 9 (Killed)`."""
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"status {code}"
