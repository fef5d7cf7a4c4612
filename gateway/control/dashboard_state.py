"""What the dashboard and `nexus-gateway top` show: one document, made from the counters of all workers.

`dashboard_state` is a function of what lies in memory: it asks nobody and waits for nothing, so a worker that hangs is
seen as well. Latencies are those of `latency_report`, as everywhere. The rule that is easiest to break: the document
travels over a channel to a browser, so nothing of the configuration and no secret belongs in it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gateway import __version__
from gateway.control.caches import CacheKind
from gateway.control.dashboard_recent import Rates, Recent
from gateway.control.fleet import Fleet, State
from gateway.control.health import readiness
from gateway.control.latency import OperationLatency, SlowEntry, latency_report
from gateway.control.relays import RelayState, relay_states
from gateway.metrics import CounterTable
from gateway.metrics.names import (
    CHANNELS,
    CLIENTS,
    CONNECTIONS,
    DROPPED_SLOW,
    FELL_BEHIND,
    MEMORY_LEVEL,
    MEMORY_LIMIT,
    MEMORY_OWN,
    MEMORY_STALLED,
    MEMORY_USED,
    METRICS,
    NO_PONG,
    PID,
    QUEUED_BYTES,
    REDIS_CONNECTED,
    REDIS_LOST,
    RESTARTS,
    STARTED_S,
    SUBSCRIPTIONS,
    USERS,
)
from gateway.relay.counters import RelayReports

NO_RELAYS: Final = RelayReports()
SLOW_SHOWN: Final = 20
"""Slow operations in a document: the newest."""
LEVELS: Final = (
    "normal",
    "shrinking caches",
    "halving send budgets",
    "refusing new connections",
    "closing the slowest",
    "draining",
)
"""Levels of the memory governor in words."""
REASONS: Final = {
    "gateway_dropped": "publications dropped",
    "gateway_history_bypassed": "publications bypassed the history",
    "gateway_handshakes_refused": "handshakes refused",
    "gateway_memory_actions": "memory governor",
}
"""Counters with a reason, and what they are called together."""


class Tally(msgspec.Struct, frozen=True):
    """One counter of something that should not happen often. Only those that did are in a document."""

    kind: str
    """A value of `REASONS`."""
    reason: str
    total: int
    per_s: float


class SlowConsumers(msgspec.Struct, frozen=True):
    """Clients that read more slowly than they are sent to, and what became of it, since the start."""

    behind: int
    """Times one was left to catch up from the log."""
    behind_per_s: float
    dropped: int
    """Deliveries that were left out for one."""
    dropped_per_s: float
    no_pong: int
    """Clients closed because they did not answer."""


class MemoryState(msgspec.Struct, frozen=True):
    """Memory against its limit, as the worker sees it that is worst off."""

    used_bytes: int
    limit_bytes: int
    """0 = not known."""
    level: int
    level_in_words: str
    stalled_percent: int
    workers_bytes: int
    """Resident memory of all workers that they share with nobody."""


class WorkerState(msgspec.Struct, frozen=True):
    """One worker."""

    name: str
    state: State
    trouble: str
    """What is wrong, in words; "" = nothing."""
    pid: int = 0
    age_s: int = 0
    restarts: int = 0
    heartbeat_age_ms: int = 0
    connections: int = 0
    channels: int = 0
    memory_bytes: int = 0
    redis_connected: bool = False
    listening: bool = False


class RedisState(msgspec.Struct, frozen=True):
    """Redis as the workers' subscribers see it."""

    state: Literal["connected", "partly", "away", "unknown"]
    """unknown: no worker runs."""
    connected: int
    """Workers that have a connection."""
    workers: int
    """Workers that run."""
    away_since: float | None
    """Seconds since 1970 UTC, when no worker has one."""
    lost: int
    """Connections that broke, since the start."""


class DashboardState(msgspec.Struct, frozen=True):
    """Everything, at one moment."""

    time: float
    """Seconds since 1970 UTC."""
    version: str
    status: Literal["ready", "degraded", "unavailable"]
    problems: list[str]
    connections: int
    clients: int
    """Connections that have completed connect."""
    users: int
    """One with connections to two workers counts twice; so does a channel."""
    channels: int
    subscriptions: int
    queued_bytes: int
    """Publications that wait for a fan-out pass."""
    rates: Rates | None
    latency_window_s: float
    latency: list[OperationLatency]
    """Operations that happened within the window."""
    slow_consumers: SlowConsumers
    tallies: list[Tally]
    memory: MemoryState | None
    """None: the governor has not looked yet."""
    workers: list[WorkerState]
    redis: RedisState
    slow: list[SlowEntry]
    """Newest first."""
    caches: list[CacheKind]
    """Response caches of all backends, by kind; empty = nothing was counted yet."""
    relays: list[RelayState] = []
    """Of the outbox and of the ingest stream, where there are such."""


def dashboard_state(
    table: CounterTable,
    fleet: Fleet,
    recent: Recent,
    monotonic_s: float,
    wall_s: float,
    *,
    caches: list[CacheKind],
    relays: RelayReports = NO_RELAYS,
) -> DashboardState:
    """The document for this moment."""
    rows = [table.row(index).tolist() for index in range(table.rows)]
    sums = [sum(cells) for cells in zip(*rows, strict=True)]
    running = [row for row in rows if row[PID]]
    health = readiness(fleet)
    report = latency_report(table, monotonic_s, wall_s)
    return DashboardState(
        time=round(wall_s, 3),
        version=__version__,
        status=health.status,
        problems=health.problems,
        connections=sums[CONNECTIONS],
        clients=sums[CLIENTS],
        users=sums[USERS],
        channels=sums[CHANNELS],
        subscriptions=sums[SUBSCRIPTIONS],
        queued_bytes=sums[QUEUED_BYTES],
        rates=recent.rates(),
        latency_window_s=report.window_s,
        latency=[operation for operation in report.operations if operation.count],
        slow_consumers=SlowConsumers(
            behind=sums[FELL_BEHIND],
            behind_per_s=recent.per_second(FELL_BEHIND),
            dropped=sums[DROPPED_SLOW],
            dropped_per_s=recent.per_second(DROPPED_SLOW),
            no_pong=sums[NO_PONG],
        ),
        tallies=[
            Tally(REASONS[metric.name], metric.value, sums[cell], recent.per_second(cell))
            for cell, metric in enumerate(METRICS)
            if metric.name in REASONS and sums[cell]
        ],
        memory=_memory(running),
        workers=_workers(table, fleet, rows, wall_s),
        redis=_redis(running, recent, sums),
        slow=sorted(report.slow, key=lambda entry: entry.time, reverse=True)[:SLOW_SHOWN],
        caches=caches,
        relays=relay_states(relays),
    )


def _workers(table: CounterTable, fleet: Fleet, rows: list[list[int]], wall_s: float) -> list[WorkerState]:
    live = {f"edge-{slot + 1}": row for slot, row in table.live_rows()}
    found = []
    for slot, worker in enumerate(fleet.workers()):
        generations = rows[slot * table.generations : (slot + 1) * table.generations]
        restarts = sum(row[RESTARTS] for row in generations)
        trouble = worker.trouble()
        if (row := live.get(worker.name)) is None:
            found.append(WorkerState(worker.name, worker.state, trouble, restarts=restarts))
            continue
        found.append(
            WorkerState(
                name=worker.name,
                state=worker.state,
                trouble=trouble,
                pid=row[PID],
                age_s=max(0, int(wall_s - row[STARTED_S])),
                restarts=restarts,
                heartbeat_age_ms=worker.heartbeat_age_ms,
                connections=worker.connections,
                channels=row[CHANNELS],
                memory_bytes=row[MEMORY_OWN],
                redis_connected=worker.redis_connected,
                listening=worker.listening,
            )
        )
    return found


def _memory(running: list[list[int]]) -> MemoryState | None:
    seen = [row for row in running if row[MEMORY_USED]]
    if not seen:
        return None
    worst = max(seen, key=lambda row: (row[MEMORY_LEVEL], row[MEMORY_USED]))
    level = worst[MEMORY_LEVEL]
    return MemoryState(
        used_bytes=worst[MEMORY_USED],
        limit_bytes=worst[MEMORY_LIMIT],
        level=level,
        level_in_words=LEVELS[min(level, len(LEVELS) - 1)],
        stalled_percent=worst[MEMORY_STALLED],
        workers_bytes=sum(row[MEMORY_OWN] for row in running),
    )


def _redis(running: list[list[int]], recent: Recent, sums: list[int]) -> RedisState:
    connected = sum(bool(row[REDIS_CONNECTED]) for row in running)
    state: Literal["connected", "partly", "away", "unknown"] = "partly"
    if not running:
        state = "unknown"
    elif not connected:
        state = "away"
    elif connected == len(running):
        state = "connected"
    return RedisState(
        state=state,
        connected=connected,
        workers=len(running),
        away_since=recent.redis_away_since if state == "away" else None,
        lost=sums[REDIS_LOST],
    )
