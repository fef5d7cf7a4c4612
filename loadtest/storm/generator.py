"""A generator whose clients come back when they were thrown out, as SDKs do, and that can let them come and go.

Started by the driver with `python -m loadtest.storm.generator`; commands and answers as in `loadtest.scale.generator`.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from typing import Any, Final

from loadtest.bench.clients import ANY
from loadtest.bench.dialects import CENTRIFUGE
from loadtest.bench.generator import main
from loadtest.bench.opening import Opened, open_connections
from loadtest.scale.generator import ScaleGenerator

DELAY_S: Final = (0.5, 1.0)
"""An SDK's first delay before it connects again is drawn from this range."""
STEP_S: Final = 0.02
DEADLINE_S: Final = 30.0
IN_FLIGHT: Final = 500


class StormGenerator(ScaleGenerator):
    """`heal` while clients are thrown out, `churn` while messages are published."""

    def do_heal(self, wanted: int, lost: int, calm_s: float, deadline_s: float) -> dict[str, Any]:
        """Let those that are thrown out come back, each after a delay of its own. Ends when at least `lost` were, all
        `wanted` are there, and nobody was thrown out for `calm_s`; or after `deadline_s`."""
        cpu, begin = time.process_time(), time.monotonic()
        due: list[float] = []
        opened, back_s, gone, first, last = Opened(), 0.0, 0, 0.0, begin
        while (now := time.monotonic()) - begin < deadline_s:
            missing = wanted - len(self._clients) - len(due)
            if missing > 0:
                gone += missing
                first, last = first or now, now
                due += [now + random.uniform(*DELAY_S) for _ in range(missing)]
                due.sort(reverse=True)
            ready = 0
            while due and due[-1] <= now and ready < IN_FLIGHT:
                due.pop()
                ready += 1
            if ready:
                self._open(ready, opened)
                back_s = time.monotonic() - first
            elif not due and gone >= lost and now - last >= calm_s:
                break
            self._clients.step(STEP_S)
        return {
            "thrown_out": gone - sum(opened.refused.values()),
            "back": len(self._clients),
            "back_s": back_s,
            "refused": opened.refused,
            "cpu": (time.process_time() - cpu) / (time.monotonic() - begin),
        } | self._take_wrong()

    def do_churn(self, per_s: float, duration_s: float) -> dict[str, Any]:
        """So many clients a second go, the oldest first, and as many come."""
        cpu, begin = time.process_time(), time.monotonic()
        opened, churned = Opened(), 0
        while (elapsed := time.monotonic() - begin) < duration_s:
            count = int(per_s * elapsed) - churned
            if count > 0:
                churned += self._clients.close_oldest(count)
                self._open(count, opened)
            self._clients.step(STEP_S)
        return {
            "churned": churned,
            "refused": opened.refused,
            "cpu": (time.process_time() - cpu) / (time.monotonic() - begin),
        } | self._take_wrong()

    def do_forget(self) -> dict[str, Any]:
        """What went wrong so far, by count; from now on it is counted anew."""
        return self._take_wrong()

    def _open(self, count: int, total: Opened) -> None:
        opened = open_connections(
            self._clients,
            (self._target["host"], self._target["port"]),
            self._target["path"],
            self._hellos(count, 0),
            CENTRIFUGE,
            count,
            ANY,
            lambda _done: None,
            self._addresses,
            DEADLINE_S,
        )
        for reason, clients in opened.refused.items():
            total.refuse(reason, clients)

    def _take_wrong(self) -> dict[str, Any]:
        wrong, self._clients.wrong = self._clients.wrong, Counter()
        return {"wrong": dict(wrong), "connections": len(self._clients)}


if __name__ == "__main__":
    sys.exit(main(StormGenerator()))
