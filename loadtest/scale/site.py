"""The gateway under load with a Redis of its own, and what it says about itself: workers, connections, memory."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child, Cores, descendants
from loadtest.bench.redis_server import start_redis
from loadtest.bench.servers import gateway
from loadtest.bench.servers.server import HOST, START_DEADLINE_S, Server, Surroundings
from loadtest.bench.usage import process_file, rss_kib
from loadtest.scale.shares import CpuMeter, Shares, tree_s

EDGE_MODULE: Final = "gateway.workers.edge"
START_S_PER_WORKER: Final = 20.0
"""On a machine that is busy with other things, too."""
HTTP_TIMEOUT_S: Final = 30.0


@dataclass(slots=True)
class Site:
    """A running gateway. Made by `started`."""

    server: Server
    redis: Child
    redis_path: str

    @property
    def target(self) -> dict[str, Any]:
        """What a generator's `setup` takes."""
        return self.server.target

    @property
    def supervisor(self) -> int:
        """Process id of the supervisor."""
        return self.server.child.process.pid

    def edge_pids(self) -> list[int]:
        """Process ids of the edge workers, oldest first. Raises BenchError when the gateway has ended."""
        self.server.child.check_alive()
        found = []
        for process in descendants(self.supervisor):
            with suppress(psutil.NoSuchProcess):
                if EDGE_MODULE in process.cmdline():
                    found.append(process.pid)
        return sorted(found)

    def memory_kib(self) -> tuple[int, int]:
        """RSS and PSS of all edge workers together."""
        pids = self.edge_pids()
        return rss_kib(pids), pss_kib(pids)

    def by_worker(self, metric: str) -> dict[str, int]:
        """Worker → value of a gauge or counter, whatever its other labels. Raises BenchError without such a metric."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{HOST}:{self.server.control_port}/metrics", timeout=HTTP_TIMEOUT_S) as answer:
                text = answer.read().decode()
        except OSError as error:
            raise BenchError(f"the gateway's metrics cannot be read: {error}") from error
        found = parse_samples(text, metric)
        if not found:
            raise BenchError(f"the gateway does not show {metric}")
        return found


class SiteMeter:
    """Who uses the machine while workers come and go: `begin`, then `end`."""

    def __init__(self, site: Site, generators: Iterable[int]) -> None:
        """`generators`: their processes, with all that they have started."""
        self._site = site
        self._generators = dict.fromkeys(generators, 0.0)
        self._redis = CpuMeter({"redis": [site.redis.process.pid]})
        self._used: dict[str, float] = {}

    def begin(self) -> None:
        """Take the first reading."""
        self._redis.begin()
        self._used = self._read()

    def look(self) -> None:
        """Remember what generators have used so far: one that has ended until `end` cannot be asked any more."""
        for pid, used in self._generators.items():
            self._generators[pid] = max(used, tree_s(pid))

    def end(self) -> Shares:
        """Take the second one. Raises BenchError when Redis is gone."""
        now, shares = self._read(), self._redis.end()
        for role, used in now.items():
            shares = shares.with_role(role, max(0.0, used - self._used[role]) / shares.seconds)
        return shares

    def _read(self) -> dict[str, float]:
        self.look()
        return {"gateway": tree_s(self._site.supervisor), "generators": sum(self._generators.values())}


def parse_samples(exposition: str, metric: str) -> dict[str, int]:
    """Worker → sum of the samples of `metric`, from Prometheus' text format."""
    found: dict[str, int] = {}
    for line in exposition.splitlines():
        if line.partition("{")[0] == metric:
            worker = line.partition('worker="')[2].partition('"')[0]
            found[worker] = found.get(worker, 0) + int(float(line.rsplit(" ", 1)[1]))
    return found


def pss_kib(pids: Iterable[int]) -> int:
    """Proportional memory of these processes together, in KiB: a page that n of them share counts 1/n for each."""
    total = 0
    for pid in pids:
        for line in process_file(pid, "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


@contextmanager
def started(
    folder: Path,
    *,
    workers: int,
    max_connections: int,
    config: str,
    command: str = gateway.DEFAULT_COMMAND,
    channels: Iterable[str] = gateway.CHANNELS,
) -> Iterator[Site]:
    """Start Redis and a gateway on all cores, and wait until it serves; stop both at the end. Raises BenchError.

    `config` is more configuration, in TOML. Clients of a generator subscribe to one of `channels`, in turns.
    """
    cores = everywhere()
    redis, path = start_redis(cores.client, folder)
    try:
        deadline_s = START_DEADLINE_S + START_S_PER_WORKER * workers
        server = gateway.start(
            Surroundings(cores, folder, path),
            command,
            workers,
            config=config,
            max_connections=max_connections,
            deadline_s=deadline_s,
        )
        names = list(channels)
        server.target["subscriptions"] = names
        server.target["channels"] = [gateway.PREFIX.format(name=server.name) + name for name in names]
        site = Site(server, redis, path)
        try:
            _wait_serving(site, workers, deadline_s)
            yield site
        except BenchError as error:
            words = "" if server.child.process.poll() is None else server.child.last_words()
            raise BenchError(str(error) if words in str(error) else f"{error}{words}") from error
        finally:
            server.stop()
    finally:
        redis.stop()


def _wait_serving(site: Site, workers: int, deadline_s: float) -> None:
    """Wait until every worker shows itself. Raises BenchError."""
    until = time.monotonic() + deadline_s
    serving: dict[str, int] = {}
    while len(serving) < workers:
        if time.monotonic() > until:
            raise BenchError(f"{len(serving)} of {workers} workers serve after {deadline_s:.0f} s")
        time.sleep(0.2)
        site.server.child.check_alive()
        with suppress(BenchError):
            serving = site.by_worker("gateway_worker_start_time_seconds")


def everywhere() -> Cores:
    """All cores for everybody, as on a machine where clients, gateway and Redis share them."""
    all_cores = frozenset(os.sched_getaffinity(0))
    return Cores(all_cores, all_cores)
