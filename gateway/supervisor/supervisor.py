"""The life of a gateway: prepare, start everything, watch, stop everything in order.

    prepare   file limit, ports, counter table            nothing runs yet: errors here cost nothing
    start     embedded Redis → edge workers, control      all or nothing: one that cannot start ends all
    watch     `keeper` and `redis` restart what dies
    reload    check the new configuration, then roll one worker after the other; what fails stops the roll
    stop      edge workers drain → control → Redis        who needs whom decides the order

The rule that is easiest to break: whatever is started is registered for its end first or at once, so that every way
out (a signal during the start, an error, cancellation) leaves no process, no port and no folder behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random as random_module
import secrets
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import NamedTuple

from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.errors import ConfigError, StartupError
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.processes import WorkerKind, WorkerSpec
from gateway.storage.binary import RedisServer
from gateway.storage.embedded import EmbeddedRedis
from gateway.supervisor.keeper import Keeper, Make, Timing
from gateway.supervisor.limits import connections_within, raise_file_limit, usable_cores
from gateway.supervisor.ports import ReservedPort
from gateway.supervisor.redis import keep_redis
from gateway.supervisor.reload import unchangeable
from gateway.supervisor.signals import StopSignals, unless
from gateway.supervisor.worker import Worker

EDGE_MODULE = "gateway.workers.edge"
CONTROL_MODULE = "gateway.workers.control"
GENERATIONS = 2
"""Rows of counters for each edge worker: its own, and its successor's while it drains."""
STARTS_PER_CORE = 2
"""Processes that start at a time. If a hundred did, none would serve within its time."""


class Serving(NamedTuple):
    """What runs where, for the banner."""

    public_host: str
    public_port: int
    control_host: str
    control_port: int
    workers: int
    node: str
    embedded: RedisServer | None
    """The redis-server that was started because `redis.url` is empty."""


class _Site(NamedTuple):
    """What stays the same for the life of a gateway."""

    public: ReservedPort
    control: ReservedPort
    table: CounterTable
    node: str
    redis: EmbeddedRedis | None
    file_limit: int
    tasks: asyncio.TaskGroup

    @property
    def capacity(self) -> int:
        """Workers that there is room for in the table."""
        return self.table.rows // GENERATIONS


class Supervisor:
    """Runs one gateway on this machine, once. `config` is validated; the modules are what its workers run.

    `reread` gives the configuration as it is now, for SIGHUP; it raises ConfigError. None = SIGHUP is not taken.
    """

    def __init__(
        self,
        config: Config,
        *,
        edge_module: str = EDGE_MODULE,
        control_module: str = CONTROL_MODULE,
        timing: Timing | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self._config = config
        self._reread = reread
        self._modules: dict[WorkerKind, str] = {"edge": edge_module, "control": control_module}
        self._timing = timing or Timing()
        self._clock = clock or SystemClock()
        self._random = random
        self._log = get_logger()
        self._site: _Site | None = None
        self._edges: list[Keeper] = []
        self._control: list[Keeper] = []
        self._running: list[asyncio.Task[None]] = []
        self._rolling = asyncio.Lock()
        """Held during a roll."""
        self._stopping = False

    async def run(self, on_ready: Callable[[Serving], None] | None = None) -> int:
        """Run until SIGTERM or SIGINT; the status to exit with: 0, or 128 + its number after a second signal.

        `on_ready` is called once, when every worker serves. Raises StartupError when the gateway cannot start.
        """
        signals = StopSignals()
        failure: StartupError | None = None
        with signals.installed(reloads=self._reread is not None):
            async with contextlib.AsyncExitStack() as cleanup, asyncio.TaskGroup() as tasks:
                try:
                    if await unless(signals.first, self._start(cleanup, tasks, on_ready)):
                        reloading = tasks.create_task(self._reload_when_asked(signals.reload))
                        self._running.append(reloading)
                        await signals.first.wait()
                        await unless(signals.second, self._stop())
                except StartupError as error:
                    failure = error
                for task in self._running:
                    task.cancel()
        if failure is not None:
            raise failure
        self._log.info("gateway stopped")
        return signals.exit_code

    async def _start(
        self,
        cleanup: contextlib.AsyncExitStack,
        tasks: asyncio.TaskGroup,
        on_ready: Callable[[Serving], None] | None,
    ) -> None:
        """Prepare and start everything, in order, until all workers serve."""
        file_limit = raise_file_limit()
        connections_within(file_limit, self._config.limits.max_connections, warn=False)
        workers = self._config.server.workers or usable_cores()
        public = ReservedPort.shared(self._config.server.host, self._config.server.port)
        cleanup.callback(public.close)
        control = ReservedPort.single(self._config.control.host, self._config.control.port)
        cleanup.callback(control.close)
        table = CounterTable.create(max(workers, usable_cores()) * GENERATIONS, GENERATIONS)
        cleanup.callback(os.close, table.fd)

        redis: EmbeddedRedis | None = None
        if not self._config.redis.url:
            redis = EmbeddedRedis(public.port)
            cleanup.push_async_callback(redis.stop)
            await redis.start()
            self._log.info("embedded redis started", server=str(redis.server), url=redis.url)
            keeping = keep_redis(redis, timing=self._timing, clock=self._clock, random=self._random)
            self._running.append(tasks.create_task(keeping))

        node = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        site = self._site = _Site(public, control, table, node, redis, file_limit, tasks)
        config = self._resolved(site, self._config)
        self._edges = [self._edge(site, slot, config) for slot in range(workers)]
        self._control = [self._keeper("control", self._make(site, "control", 0, config))]
        # The control process first: as soon as an edge worker serves, clients take what there is of CPU.
        places = asyncio.Semaphore(STARTS_PER_CORE * usable_cores())
        await _all(self._start_in_turn(places, tasks, keeper) for keeper in (*self._control, *self._edges))
        if on_ready is not None:
            embedded = redis.server if redis is not None else None
            on_ready(Serving(public.host, public.port, control.host, control.port, workers, node, embedded))

    async def _start_in_turn(self, places: asyncio.Semaphore, tasks: asyncio.TaskGroup, keeper: Keeper) -> None:
        """Start one worker once there is a place, and wait until it serves."""
        async with places:
            self._running.append(tasks.create_task(keeper.run()))
            await keeper.wait_ready()

    async def _stop(self) -> None:
        """Edge workers first: while they drain, the control process still shows how that goes."""
        self._stopping = True
        window_s, longest_s = self._draining(self._config)
        await _all(keeper.stop(window_s, longest_s) for keeper in self._edges)
        async with self._rolling:  # A roll ends after the worker that it is at, whose predecessor may be draining.
            pass
        await _all(keeper.stop(0.0, self._timing.control_stop_s) for keeper in self._control)

    def _draining(self, config: Config) -> tuple[float, float]:
        """The window for edge workers to drain in, and the time after which they are killed."""
        return config.server.drain_window_s, self._timing.longest_drain_s(config)

    async def _reload_when_asked(self, asked: asyncio.Event) -> None:
        """Runs until cancelled."""
        while True:
            await asked.wait()
            asked.clear()
            if self._site is None or self._reread is None or self._stopping:
                continue
            try:
                config = self._reread()
                connections_within(self._site.file_limit, config.limits.max_connections, warn=False)
                problems: Sequence[str] = unchangeable(self._config, config, self._site.capacity)
            except ConfigError as error:
                problems = error.problems
            except StartupError as error:
                problems = [str(error)]
            if problems:
                self._log.error("reload refused", problems=list(problems), in_effect="the configuration as it was")
                continue
            async with self._rolling:
                await self._roll(self._site, config)

    async def _roll(self, site: _Site, config: Config) -> None:
        """Every worker by one with `config`: more workers first, fewer last, the control process at the end."""
        started = self._clock.monotonic()
        workers = config.server.workers or usable_cores()
        resolved = self._resolved(site, config)
        window_s, longest_s = self._draining(config)
        more = [self._edge(site, slot, resolved) for slot in range(len(self._edges), workers)]
        rolling = self._edges[:workers]
        rolled: list[str] = []
        self._log.info("reload started", workers=workers)
        keeper = self._control[0]
        try:
            for keeper in more:
                self._running.append(site.tasks.create_task(keeper.run()))
                self._edges.append(keeper)
                await keeper.wait_ready()
                rolled.append(keeper.name)
            for slot, keeper in enumerate(rolling):
                if self._stopping:
                    return
                await keeper.roll(self._make(site, "edge", slot, resolved), window_s, longest_s)
                rolled.append(keeper.name)
            await _all(keeper.stop(window_s, longest_s) for keeper in self._edges[workers:])
            del self._edges[workers:]
            (keeper,) = self._control
            await keeper.roll(self._make(site, "control", 0, resolved), 0.0, self._timing.control_stop_s)
        except StartupError as error:
            old = [each.name for each in (*rolling, *self._control) if each.name not in rolled]
            self._edges = [each for each in self._edges if each not in more or each.name in rolled]
            say = self._log.info if self._stopping else self._log.error
            say("reload stopped", worker=keeper.name, reason=str(error), rolled=rolled, unchanged=old)
            return
        self._config = config
        self._log.info("reload done", workers=workers, seconds=round(self._clock.monotonic() - started, 1))

    def _edge(self, site: _Site, slot: int, config: Config) -> Keeper:
        rows = [site.table.row(slot * GENERATIONS + generation) for generation in range(GENERATIONS)]
        return self._keeper(f"edge-{slot + 1}", self._make(site, "edge", slot, config), rows)

    def _keeper(self, name: str, make: Make, rows: Sequence[memoryview[int]] = ()) -> Keeper:
        return Keeper(name, make, rows=rows, timing=self._timing, clock=self._clock, random=self._random)

    def _make(self, site: _Site, kind: WorkerKind, slot: int, config: Config) -> Make:
        """Makes the workers of one slot with `config`, one after the other."""
        values = config.model_dump(mode="json")

        def make(generation: int, listening: list[int]) -> Worker:
            spec = WorkerSpec(
                kind=kind,
                slot=slot * GENERATIONS + generation if kind == "edge" else -1,
                node=site.node,
                config=values,
                counters_fd=site.table.fd,
                counters_rows=site.table.rows,
                generations=GENERATIONS,
                listening=site.control.fds if kind == "control" else listening,
            )
            return Worker(spec, self._modules[kind])

        return make

    def _resolved(self, site: _Site, config: Config) -> Config:
        """`config` with nothing left open: what the workers get."""
        max_connections = connections_within(site.file_limit, config.limits.max_connections)
        server, redis = config.server, config.redis
        workers = server.workers or usable_cores()
        return config.model_copy(
            update={
                "server": server.model_copy(update={"workers": workers, "port": site.public.port}),
                "control": config.control.model_copy(update={"port": site.control.port}),
                "redis": redis.model_copy(update={"url": site.redis.url if site.redis is not None else redis.url}),
                "limits": config.limits.model_copy(update={"max_connections": max_connections}),
            }
        )


async def _all(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait for all of `work`, side by side; the first error rises at once, and the rest is cancelled."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
