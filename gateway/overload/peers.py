"""The other workers of this gateway, as far as memory is concerned: what all have, and whose turn it is to drain.

All workers see the same limit, so all would drain at once. The one that has most memory for itself goes, alone, and
the next one not before `drain_interval_s` is over: the table of counters says who has what and who went when; a lock
on its file lets one through. The kernel frees the lock when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl

from gateway.metrics import CounterTable, names


class Peers:
    __slots__ = ("_drain_interval_s", "_row", "_slot", "_table")

    def __init__(self, table: CounterTable, slot: int, *, drain_interval_s: float) -> None:
        self._table = table
        self._slot = slot
        self._row = table.row(slot)
        self._drain_interval_s = drain_interval_s

    def used_bytes(self) -> int:
        """Memory of all edge workers, each as it has last said."""
        return sum(row[names.MEMORY_OWN] for _, row in self._table.live_rows())

    def may_drain(self, now: float) -> bool:
        """Whether this worker drains now (monotonic seconds). Said once: after True it is the one that does."""
        own = {slot: row[names.MEMORY_OWN] for slot, row in self._table.live_rows()}
        if any((size, slot) > (own.get(self._slot, 0), self._slot) for slot, size in own.items()):
            return False
        try:
            fcntl.lockf(self._table.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # Another one drains.
        last_ms = max(self._table.row(slot)[names.MEMORY_DRAINED_MS] for slot in range(self._table.rows))
        now_ms = max(1, int(now * 1000))
        if last_ms and now_ms - last_ms < self._drain_interval_s * 1000:
            fcntl.lockf(self._table.fd, fcntl.LOCK_UN)
            return False
        self._row[names.MEMORY_DRAINED_MS] = now_ms
        return True
