"""Keeps one slot filled: starts its worker, starts another when it has ended, until the gateway stops.

`roll` replaces the worker without a gap: its successor is started with copies of its listening sockets, and only when
the successor serves does the old one leave and drain. A successor that does not get there changes nothing.

The rule that is easiest to break: the row of a worker that is gone must not go on showing its connections. Gauges are
set to 0 at its death; counters stay, and the next worker of the slot counts on from them, so that sums over the fleet
never go back (a reset would be read rightly by Prometheus, too, but would lose what came after the last scrape).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import StartupError
from gateway.log import get_logger
from gateway.metrics.names import METRICS, RESTARTS
from gateway.supervisor.worker import Worker, describe_exit
from gateway.tasks import fail

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config import Config


Make = Callable[[int, list[int]], Worker]
"""Makes a worker from its generation and file descriptors of the listening sockets that it goes on with."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long the supervisor waits for what. Tests shorten it."""

    ready_timeout_s: float = 30.0
    """From the start of a worker to its `ready`."""
    drain_margin_s: float = 2.0
    """What edge workers get on top of the drain window and the close time-out, before SIGKILL."""
    control_stop_s: float = 5.0
    """What the control process gets to finish its requests, before SIGKILL."""
    hand_over_s: float = 10.0
    """What a worker gets to send copies of its listening sockets. One that does not answer is rolled without them: then
    it takes what waits in their queues, and connections that the kernel is just making are lost."""
    restart_base_s: float = 0.1
    restart_cap_s: float = 30.0
    restart_reset_s: float = 60.0
    """A process that lived this long was healthy: its next restart is the first again."""

    def longest_drain_s(self, config: Config) -> float:
        """Time after which an edge worker that drains is killed: window, handshakes under way, close frames, margin."""
        limits = config.limits
        return config.server.drain_window_s + limits.connect_timeout_s + limits.close_timeout_s + self.drain_margin_s

    def longest_stop_s(self, config: Config) -> float:
        """Time from SIGTERM to the end of a gateway whose Redis is another's: what a service manager has to grant."""
        return self.longest_drain_s(config) + self.control_stop_s


class RestartDelay:
    """Time before each restart: doubles from `restart_base_s` to `restart_cap_s`, drawn from its upper half.

    Not from all of it (full jitter), because what fails at once must not be started in a loop. `random` as in
    `random.random`.
    """

    __slots__ = ("_failures", "_random", "_timing")

    def __init__(self, timing: Timing, random: Callable[[], float]) -> None:
        self._timing = timing
        self._random = random
        self._failures = 0

    def after(self, lived_s: float) -> float:
        """Seconds to wait after the death of a process that lived for `lived_s`."""
        if lived_s >= self._timing.restart_reset_s:
            self._failures = 0
        ceiling = min(self._timing.restart_cap_s, self._timing.restart_base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return ceiling * (0.5 + 0.5 * self._random())


class Keeper:
    """One slot. `make(generation, listening)` makes its next worker; `rows` are the counters of its generations."""

    def __init__(
        self,
        name: str,
        make: Make,
        *,
        rows: Sequence[memoryview[int]] = (),
        timing: Timing,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self._make = make
        self._rows = rows
        self._generation = 0
        self._timing = timing
        self._clock = clock
        self._delay = RestartDelay(timing, random)
        self._log = get_logger(worker=name)
        self._worker: Worker | None = None
        self._first_start = True
        self._stopping = asyncio.Event()
        self._succeeded = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    async def wait_ready(self) -> None:
        """Wait until the first worker serves. Raises StartupError when it never does: a restart would not help."""
        await asyncio.shield(self._ready)

    async def run(self) -> None:
        """Keep the slot filled until `stop`. Cancelled: kills the worker."""
        try:
            while not self._stopping.is_set():
                started = self._clock.monotonic()
                self._succeeded.clear()
                if self._worker is not None:
                    replaced = await self._keep(self._worker, started)
                else:
                    replaced = await self._start(started)
                if self._first_start:
                    return
                if not replaced and not self._stopping.is_set():
                    if self._rows:
                        self._rows[self._generation][RESTARTS] += 1
                    delay_s = self._delay.after(self._clock.monotonic() - started)
                    self._log.info("worker restarts", in_s=round(delay_s, 2))
                    await self._pause(delay_s)
        finally:
            fail(self._ready, StartupError(f"worker {self.name} was stopped before it served"))
            self._ended.set()

    async def roll(self, make: Make, window_s: float, timeout_s: float) -> None:
        """Replace the worker by one that `make` makes, now and from now on; returns when the old one is gone.

        That one drains over `window_s` and is killed after `timeout_s`. Raises StartupError when the successor does not
        get to serve: the old worker stays.
        """
        old = self._worker
        if old is None or not old.is_ready:
            # It is being started anyway, or waits for its restart: the next one is made the new way.
            self._make = make
            if old is not None:
                await self._retire(old, 0.0, timeout_s)
            return
        generation = (self._generation + 1) % len(self._rows) if self._rows else 0
        listening = await old.hand_over(self._timing.hand_over_s) if self._rows else []
        successor = make(generation, listening)
        try:
            await self._serve(successor)
            if self._worker is not old:
                raise StartupError("the worker that it should replace has died meanwhile")
        except BaseException:
            await self._forget(successor, generation)
            raise
        finally:
            for fd in listening:
                os.close(fd)
        before, self._generation, self._make, self._worker = self._generation, generation, make, successor
        self._succeeded.set()
        try:
            code = await self._retire(old, window_s, timeout_s, succeeded=True, handed_over=bool(listening))
            self._log.info("worker replaced", pid=old.pid, successor=successor.pid, exit=describe_exit(code))
        finally:
            await self._forget(old, before)

    async def stop(self, window_s: float, timeout_s: float) -> None:
        """Drain the worker over `window_s`; SIGKILL after `timeout_s`. Returns when it is gone and `run` at its end."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.drain(window_s)
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            if self._worker is not None:
                self._kill(self._worker, timeout_s)
            await self._ended.wait()

    async def _start(self, started: float) -> bool:
        """One worker from its start to its end, or to its successor."""
        generation = self._generation
        worker = self._make(generation, [])
        try:
            await worker.start()
        except OSError as error:
            self._report(None, f"cannot start the process: {error.strerror}", 0.0)
            await self._forget(worker, generation)
            return False
        self._worker = worker
        self._log.info("worker started", pid=worker.pid)
        if self._stopping.is_set():
            worker.drain(0.0)
        return await self._keep(worker, started)

    async def _keep(self, worker: Worker, started: float) -> bool:
        """Watch a worker that was started. True = it has a successor and is not ours any more; False = it has ended."""
        generation, replaced = self._generation, False
        try:
            if not worker.is_ready and await worker.wait_ready(self._timing.ready_timeout_s):
                self._log.info("worker ready", pid=worker.pid, after_s=round(self._clock.monotonic() - started, 2))
                self._first_start = False
                if not self._ready.done():
                    self._ready.set_result(None)
            ending = asyncio.ensure_future(worker.wait_ended())
            succeeded = asyncio.ensure_future(self._succeeded.wait())
            try:
                await asyncio.wait({ending, succeeded}, return_when=asyncio.FIRST_COMPLETED)
                replaced = self._succeeded.is_set()
                if not replaced:
                    self._report(await ending, worker.reason, self._clock.monotonic() - started)
            finally:
                ending.cancel()
                succeeded.cancel()
        finally:
            if not replaced:
                self._worker = None
                await self._forget(worker, generation)
        return replaced

    async def _serve(self, successor: Worker) -> None:
        """Start it and wait until it serves. Raises StartupError."""
        started = self._clock.monotonic()
        try:
            await successor.start()
        except OSError as error:
            raise StartupError(f"cannot start the process: {error.strerror}") from error
        self._log.info("worker started", pid=successor.pid, to_replace=self._worker.pid if self._worker else None)
        waiting = asyncio.ensure_future(successor.wait_ready(self._timing.ready_timeout_s))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                raise StartupError("the gateway stops")
            if not await waiting:
                code = await successor.wait_ended()
                raise StartupError(successor.reason or f"ended with {describe_exit(code)}; what it wrote is above")
        finally:
            waiting.cancel()
            stopping.cancel()
        self._log.info("worker ready", pid=successor.pid, after_s=round(self._clock.monotonic() - started, 2))

    async def _retire(
        self, worker: Worker, window_s: float, timeout_s: float, *, succeeded: bool = False, handed_over: bool = False
    ) -> int:
        """Drain it, whatever it takes; its return code."""
        worker.drain(window_s, succeeded=succeeded, handed_over=handed_over)
        try:
            return await asyncio.wait_for(worker.wait_ended(), timeout_s)
        except TimeoutError:
            self._kill(worker, timeout_s)
            return await worker.wait_ended()

    async def _forget(self, worker: Worker, generation: int) -> None:
        """Reap the process, and nothing of it is true any more, except what it has counted."""
        await worker.aclose()
        if self._rows:
            zero_gauges(self._rows[generation])

    async def _pause(self, delay_s: float) -> None:
        """Wait until the restart is due, or the gateway stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _kill(self, worker: Worker, timeout_s: float) -> None:
        self._log.warning("worker killed", pid=worker.pid, reason=f"did not end within {timeout_s:g} s")
        worker.kill()

    def _report(self, code: int | None, reason: str, lived_s: float) -> None:
        how = describe_exit(code) if code is not None else ""
        if self._first_start and not self._stopping.is_set():
            why = f": {reason}" if reason else "; what it wrote is above"
            ending = f" ({how})" if how else ""
            self._ready.set_exception(StartupError(f"worker {self.name} could not start{ending}{why}"))
            return
        say = self._log.info if self._stopping.is_set() and code == 0 else self._log.error
        say("worker ended", exit=how, reason=reason or None, lived_s=round(lived_s, 1))


def zero_gauges(row: memoryview[int]) -> None:
    """Nothing of a dead worker is true any more, except what it has counted."""
    for cell, metric in enumerate(METRICS):
        if metric.kind == "gauge":
            row[cell] = 0
