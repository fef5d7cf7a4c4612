"""The workers as their counters show them, at this moment.

Read from shared memory: a worker that hangs cannot answer, but its row still tells how long its loop has not moved.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from gateway.clock import Clock
from gateway.metrics import CounterTable
from gateway.metrics.names import BEAT_MS, CONNECTIONS, LISTENING, READY, REDIS_CONNECTED

STUCK_AFTER_MS: Final = 5_000
"""Time without a heartbeat after which a worker counts as stuck. Workers beat about once a second."""

State = Literal["ready", "not_ready", "stuck", "missing"]
STATES: Final[tuple[State, ...]] = ("ready", "not_ready", "stuck", "missing")


class Worker(NamedTuple):
    """One worker. `name` as in its log lines."""

    name: str
    state: State
    connections: int = 0
    heartbeat_age_ms: int = 0
    redis_connected: bool = False
    listening: bool = False

    def trouble(self) -> str:
        """What is wrong with it, for people; "" = nothing."""
        match self.state:
            case "missing":
                return f"{self.name} is not running"
            case "stuck":
                return f"{self.name} has not moved for {self.heartbeat_age_ms / 1000:.0f} s"
            case "not_ready" if not self.redis_connected:
                return f"{self.name} has no connection to Redis"
            case "not_ready" if not self.listening:
                return f"{self.name} takes no connections: it is full, or it is stopping"
            case "not_ready":
                return f"{self.name} is not ready: its messages do not come back from Redis, or it has just started"
        return ""


class Fleet:
    """All workers of this gateway."""

    def __init__(self, table: CounterTable, workers: int, clock: Clock) -> None:
        """`workers`: how many there should be; they have the first rows of the table."""
        self._table = table
        self._workers = workers
        self._clock = clock

    def workers(self) -> list[Worker]:
        """Every worker that should be there, and any further one that is: while workers are rolled there are more."""
        now_ms = int(self._clock.monotonic() * 1000)
        live = {slot: _read(slot, row, now_ms) for slot, row in self._table.live_rows()}
        slots = sorted({*range(min(self._workers, self._table.rows)), *live})
        return [live.get(slot) or Worker(worker_name(slot), "missing") for slot in slots]


def worker_name(slot: int) -> str:
    """`edge-1` … `edge-N`, as in log lines."""
    return f"edge-{slot + 1}"


def _read(slot: int, row: memoryview[int], now_ms: int) -> Worker:
    age_ms = max(0, now_ms - row[BEAT_MS])
    state: State = "stuck" if age_ms > STUCK_AFTER_MS else "ready" if row[READY] else "not_ready"
    return Worker(worker_name(slot), state, row[CONNECTIONS], age_ms, bool(row[REDIS_CONNECTED]), bool(row[LISTENING]))
