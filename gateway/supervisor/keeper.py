"""Keeps one slot filled: starts its worker, starts another when it has ended, until the gateway stops.

The rule that is easiest to break: the row of a worker that is gone must not go on showing its connections. Gauges are
set to 0 at its death; counters stay, and the next worker of the slot counts on from them, so that sums over the fleet
never go back (a reset would be read rightly by Prometheus, too, but would lose what came after the last scrape).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import StartupError
from gateway.log import get_logger
from gateway.metrics.names import METRICS
from gateway.supervisor.worker import Worker, describe_exit

if TYPE_CHECKING:
    from gateway.clock import Clock


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long the supervisor waits for what. Tests shorten it."""

    ready_timeout_s: float = 30.0
    """From the start of a worker to its `ready`."""
    drain_margin_s: float = 2.0
    """What edge workers get on top of the drain window and the close time-out, before SIGKILL."""
    control_stop_s: float = 5.0
    """What the control process gets to finish its requests, before SIGKILL."""
    restart_base_s: float = 0.1
    restart_cap_s: float = 30.0
    restart_reset_s: float = 60.0
    """A process that lived this long was healthy: its next restart is the first again."""


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
    """One slot. `make` makes its next worker; `row` is its counters, None for the control process."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Worker],
        *,
        row: memoryview[int] | None,
        timing: Timing,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self._make = make
        self._row = row
        self._timing = timing
        self._clock = clock
        self._delay = RestartDelay(timing, random)
        self._log = get_logger(worker=name)
        self._worker: Worker | None = None
        self._first_start = True
        self._stopping = asyncio.Event()
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
                await self._run_one()
                if self._first_start:
                    return
                if not self._stopping.is_set():
                    delay_s = self._delay.after(self._clock.monotonic() - started)
                    self._log.info("worker restarts", in_s=round(delay_s, 2))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), delay_s)
        finally:
            self._ended.set()

    async def stop(self, window_s: float, timeout_s: float) -> None:
        """Drain the worker over `window_s`; SIGKILL after `timeout_s`. Returns when it is gone and `run` at its end."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.drain(window_s)
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            if self._worker is not None:
                self._log.warning("worker killed", pid=self._worker.pid, reason=f"did not end within {timeout_s:g} s")
                self._worker.kill()
            await self._ended.wait()

    async def _run_one(self) -> None:
        """One worker from start to end."""
        worker = self._make()
        started = self._clock.monotonic()
        try:
            try:
                await worker.start()
            except OSError as error:
                self._report(None, f"cannot start the process: {error.strerror}", 0.0)
                return
            self._worker = worker
            self._log.info("worker started", pid=worker.pid)
            if self._stopping.is_set():
                worker.drain(0.0)
            if await worker.wait_ready(self._timing.ready_timeout_s):
                self._log.info("worker ready", pid=worker.pid, after_s=round(self._clock.monotonic() - started, 2))
                self._first_start = False
                if not self._ready.done():
                    self._ready.set_result(None)
            code = await worker.wait_ended()
            self._report(code, worker.reason, self._clock.monotonic() - started)
        finally:
            self._worker = None
            await worker.aclose()
            if self._row is not None:
                zero_gauges(self._row)

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
