"""How much is measured of the peers: the default run, about twelve minutes with all of them, and the quick one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtest.bench.plan import Plan


@dataclass(frozen=True, slots=True)
class StallPlan:
    """Clients that do not read: `stalled` beside `readers`.

    `before` messages of `message_bytes` to the readers alone, then `messages` to all, `a_pass` at a time.
    `receive_bytes` is what the kernel takes in for each that does not read (it doubles the number).
    """

    readers: int = 270
    stalled: int = 30
    before: int = 128
    messages: int = 512
    a_pass: int = 4
    message_bytes: int = 16_384
    receive_bytes: int = 16_384


@dataclass(frozen=True, slots=True)
class PeersPlan:
    """Numbers of one run. See `Plan` for those of the lanes."""

    lanes: Plan
    stall: StallPlan


FULL: Final = PeersPlan(
    lanes=Plan(
        connections=5_000,
        cost_connections=1_000,
        reopen_connections=2_000,
        reopen_rounds=3,
        rounds=5,
        rounds_s=600.0,
        passes=(1, 10, 100),
        heavy_rounds=2,
        whole_tree=True,
        latency_rounds=3,
        rate_per_s=2.0,
        rate_messages=6,
    ),
    stall=StallPlan(),
)


QUICK: Final = PeersPlan(
    lanes=Plan(
        connections=1_000,
        cost_connections=500,
        reopen_connections=500,
        reopen_rounds=1,
        rounds=2,
        rounds_s=120.0,
        settle_s=0.3,
        cost_cpu_s=0.25,
        cost_wall_s=0.5,
        passes=(1, 10, 100),
        heavy_rounds=1,
        whole_tree=True,
        latency_rounds=1,
        rate_per_s=4.0,
        rate_messages=4,
    ),
    stall=StallPlan(readers=90, stalled=10, before=64, messages=256),
)
"""For a look in about two minutes. Its figures are rougher."""
