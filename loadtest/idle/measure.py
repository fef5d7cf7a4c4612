"""The two measurements: CPU at rest, and round trips in a storm."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.link import Link
from loadtest.bench.servers import gateway
from loadtest.bench.servers.server import Surroundings
from loadtest.bench.stats import percentile
from loadtest.bench.usage import cpu_time
from loadtest.idle.prober import Prober

PROBE_INTERVAL_S: Final = 0.004
IN_FLIGHT: Final = 256
"""Clients that are opening at a time where that is not what is measured."""


@dataclass(frozen=True, slots=True)
class Rest:
    """CPU of one worker with idle clients."""

    clients: int
    seconds: float
    user_s: float
    total_s: float

    @property
    def percent(self) -> float:
        """Of one core."""
        return 100 * self.total_s / self.seconds


@dataclass(frozen=True, slots=True)
class Storm:
    """Round trips of one connection while others connect, in ms."""

    per_s: float
    """The pace; 0 = none."""
    connected: int
    refused: int
    clients_per_s: float
    probes: int
    p50_ms: float
    p99_ms: float
    longest_ms: float


def rest(around: Surroundings, command: str, clients: int, settle_s: float, seconds: float) -> Rest:
    """Connect `clients`, let them settle, and take the worker's CPU over `seconds`. Raises BenchError."""
    with ExitStack() as cleanup:
        server = gateway.start(around, command)
        cleanup.callback(server.stop)
        link = Link.start("idle", around.cores.client, around.folder)
        cleanup.callback(link.stop)
        link.ask("setup", **server.target)
        opened = link.ask("open", count=clients, in_flight=IN_FLIGHT)
        if opened["connections"] != clients:
            raise BenchError(f"{opened['connections']} of {clients} clients connected: {opened['refused']}")
        link.ask("settle", duration_s=settle_s)
        gateway.check_measured(server)
        begin, before = time.monotonic(), cpu_time(server.pids)
        settled = link.ask("settle", duration_s=seconds)
        used, took_s = cpu_time(server.pids).since(before), time.monotonic() - begin
        if settled["connections"] != clients:
            raise BenchError(f"{clients - settled['connections']} clients were lost: {settled['wrong']}")
    return Rest(clients, took_s, used.user_s, used.total_s)


def storm(around: Surroundings, command: str, clients: int, per_s: float) -> Storm:
    """Let `clients` connect at once to a worker with this pace, and ask on another connection all the while."""
    with ExitStack() as cleanup:
        server = gateway.start(around, f"env GATEWAY_LIMITS__HANDSHAKES_PER_S={per_s:g} {command}")
        cleanup.callback(server.stop)
        link = Link.start("storm", around.cores.client, around.folder)
        cleanup.callback(link.stop)
        target = server.target
        prober = Prober(target["host"], target["port"], target["path"], target["secret"], PROBE_INTERVAL_S)
        cleanup.callback(prober.close)
        link.ask("setup", **target)
        prober.start()
        opened = link.ask("open", count=clients, in_flight=clients)
        took = sorted(prober.stop())
    return Storm(
        per_s=per_s,
        connected=opened["connections"],
        refused=sum(opened["refused"].values()),
        clients_per_s=opened["connections"] / opened["elapsed_s"],
        probes=len(took),
        p50_ms=percentile(took, 50) / 1e6,
        p99_ms=percentile(took, 99) / 1e6,
        longest_ms=took[-1] / 1e6,
    )
