"""The life of a gateway: prepare, start everything, watch, stop everything in order.

    prepare   file limit, ports, counter table            nothing runs yet: errors here cost nothing
    start     embedded Redis → edge workers, control      all or nothing: one that cannot start ends all
    watch     `keeper` and `redis` restart what dies
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
from collections.abc import Callable, Coroutine, Iterable
from typing import NamedTuple

from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.errors import StartupError
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.processes import WorkerKind, WorkerSpec
from gateway.storage.binary import RedisServer
from gateway.storage.embedded import EmbeddedRedis
from gateway.supervisor.keeper import Keeper, Timing
from gateway.supervisor.limits import connections_within, raise_file_limit, usable_cores
from gateway.supervisor.ports import ReservedPort
from gateway.supervisor.redis import keep_redis
from gateway.supervisor.signals import StopSignals, unless
from gateway.supervisor.worker import Worker

EDGE_MODULE = "gateway.workers.edge"
CONTROL_MODULE = "gateway.workers.control"


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


class Supervisor:
    """Runs one gateway on this machine, once. `config` is validated; the modules are what its workers run."""

    def __init__(
        self,
        config: Config,
        *,
        edge_module: str = EDGE_MODULE,
        control_module: str = CONTROL_MODULE,
        timing: Timing | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._config = config
        self._modules: dict[WorkerKind, str] = {"edge": edge_module, "control": control_module}
        self._timing = timing or Timing()
        self._clock = clock or SystemClock()
        self._random = random
        self._log = get_logger()
        self._edges: list[Keeper] = []
        self._control: list[Keeper] = []
        self._running: list[asyncio.Task[None]] = []

    async def run(self, on_ready: Callable[[Serving], None] | None = None) -> int:
        """Run until SIGTERM or SIGINT; the status to exit with: 0, or 128 + its number after a second signal.

        `on_ready` is called once, when every worker serves. Raises StartupError when the gateway cannot start.
        """
        signals = StopSignals()
        failure: StartupError | None = None
        with signals.installed():
            async with contextlib.AsyncExitStack() as cleanup, asyncio.TaskGroup() as tasks:
                try:
                    if await unless(signals.first, self._start(cleanup, tasks, on_ready)):
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
        max_connections = connections_within(file_limit, self._config.limits.max_connections)
        workers = self._config.server.workers or usable_cores()
        public = ReservedPort.shared(self._config.server.host, self._config.server.port)
        cleanup.callback(public.close)
        control = ReservedPort.single(self._config.control.host, self._config.control.port)
        cleanup.callback(control.close)
        table = CounterTable.create(workers)
        cleanup.callback(os.close, table.fd)

        redis: EmbeddedRedis | None = None
        if not self._config.redis.url:
            redis = EmbeddedRedis(public.port)
            cleanup.push_async_callback(redis.stop)
            await redis.start()
            self._log.info("embedded redis started", server=str(redis.server), url=redis.url)
            keeping = keep_redis(redis, timing=self._timing, clock=self._clock, random=self._random)
            self._running.append(tasks.create_task(keeping))

        config = _resolved(
            self._config,
            workers=workers,
            public_port=public.port,
            control_port=control.port,
            redis_url=redis.url if redis is not None else self._config.redis.url,
            max_connections=max_connections,
        )
        node = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        self._edges = [self._keeper("edge", slot, config, node, table) for slot in range(workers)]
        self._control = [self._keeper("control", -1, config, node, table)]
        keepers = [*self._edges, *self._control]
        self._running += [tasks.create_task(keeper.run()) for keeper in keepers]
        await _all(keeper.wait_ready() for keeper in keepers)
        if on_ready is not None:
            embedded = redis.server if redis is not None else None
            on_ready(Serving(public.host, public.port, control.host, control.port, workers, node, embedded))

    async def _stop(self) -> None:
        """Edge workers first: while they drain, the control process still shows how that goes."""
        window_s = self._config.server.drain_window_s
        longest_s = window_s + self._config.limits.close_timeout_s + self._timing.drain_margin_s
        await _all(keeper.stop(window_s, longest_s) for keeper in self._edges)
        await _all(keeper.stop(0.0, self._timing.control_stop_s) for keeper in self._control)

    def _keeper(self, kind: WorkerKind, slot: int, config: Config, node: str, table: CounterTable) -> Keeper:
        spec = WorkerSpec(
            kind=kind,
            slot=slot,
            node=node,
            config=config.model_dump(mode="json"),
            counters_fd=table.fd,
            counters_rows=table.rows,
        )
        return Keeper(
            spec.name,
            lambda: Worker(spec, self._modules[kind]),
            row=table.row(slot) if kind == "edge" else None,
            timing=self._timing,
            clock=self._clock,
            random=self._random,
        )


def _resolved(
    config: Config, *, workers: int, public_port: int, control_port: int, redis_url: str, max_connections: int
) -> Config:
    """`config` with nothing left open: what the workers get."""
    return config.model_copy(
        update={
            "server": config.server.model_copy(update={"workers": workers, "port": public_port}),
            "control": config.control.model_copy(update={"port": control_port}),
            "redis": config.redis.model_copy(update={"url": redis_url}),
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
