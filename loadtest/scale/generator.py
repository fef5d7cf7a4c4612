"""A generator that is one of many: it opens connections in batches and tells what it has heard of a broadcast.

Started by the driver with `python -m loadtest.scale.generator`; commands and answers as in `loadtest.bench.generator`.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from collections import Counter
from typing import Any

from loadtest.bench.dialects import CENTRIFUGE
from loadtest.bench.generator import Generator, main
from loadtest.bench.opening import open_connections
from loadtest.bench.publishing import WIDE, what_went_wrong

NS_PER_MS = 1_000_000
LOOK_S = 0.012
"""Pause while nothing is there to be read. Times are late by no more than this.

Without it each delivery would wake a generator up, on the cores of the gateway and in the time that its write takes:
what no client on another machine does, and what would be measured first.
"""


class ScaleGenerator(Generator):
    """`prepare`, then `grow` until there are enough; `listen` before a broadcast, `hear` after it."""

    def __init__(self) -> None:
        super().__init__()
        self._hellos_left: list[bytes] = []
        self._addresses: list[str] = []
        self._sequence = 0

    def do_prepare(self, count: int, first_user: int, addresses: list[str]) -> dict[str, Any]:
        """Sign the tokens of `count` clients. They are users `first_user` and up, and come from `addresses`."""
        self._users = first_user
        channels = len(self._target["subscriptions"])
        self._hellos_left = [self._hellos(1, user % channels)[0] for user in range(first_user, first_user + count)]
        self._addresses = addresses
        gc.freeze()
        return {"prepared": len(self._hellos_left)}

    def do_grow(self, count: int, in_flight: int, deadline_s: float) -> dict[str, Any]:
        """Open the next `count` connections."""
        hellos, self._hellos_left = self._hellos_left[:count], self._hellos_left[count:]
        opened = open_connections(
            self._clients,
            (self._target["host"], self._target["port"]),
            self._target["path"],
            hellos,
            CENTRIFUGE,
            in_flight,
            self._sequence,
            lambda _done: None,
            self._addresses,
            deadline_s,
        )
        gc.freeze()
        return dataclasses.asdict(opened)

    def do_listen(self) -> dict[str, Any]:
        """From now on, take the time of every message."""
        self._clients.record(WIDE)
        return {"received": self._clients.received[WIDE]}

    def do_hear(self, received: int, deadline_s: float, messages: int = 1) -> dict[str, Any]:
        """Read until `received` messages are there, all told, and say after how many ms they came: ms → deliveries."""
        until = time.monotonic() + deadline_s
        while self._clients.received[WIDE] < received and time.monotonic() < until:
            if not self._clients.step(0):
                time.sleep(LOOK_S)
        times = Counter(time_ns // NS_PER_MS for time_ns in self._clients.sorted_latencies_ns())
        self._clients.record(-1)
        self._sequence += messages
        return {
            "received": self._clients.received[WIDE],
            "times_ms": [[ms, count] for ms, count in sorted(times.items())],
            "wrong": what_went_wrong(self._clients),
        }

    def do_state(self) -> dict[str, Any]:
        """Connections that are left, and what went wrong."""
        return {"connections": len(self._clients), "wrong": what_went_wrong(self._clients)}


if __name__ == "__main__":
    sys.exit(main(ScaleGenerator()))
