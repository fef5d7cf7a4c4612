"""How much is measured, and for how long: the default run, and the quick one."""

from __future__ import annotations

from dataclasses import dataclass

MESSAGES_PER_PASS = (1, 10)


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of one run. Times in seconds, rates per second.

    `cost_cpu_s` is the CPU time that a server has to use in one measurement; `cost_wall_s` ends it earlier.
    Rounds are short and many, so that servers are compared within seconds. `in_flight`
    is how many clients are opening at a time; in the storm all of them are. Past `rounds_s`, no further round begins.
    After opening, `cost_connections` are kept (0 = all) and everything else is measured with them. The first
    `reopen_rounds` rounds open `reopen_connections` more, timed, and close them. `passes` are numbers of messages a
    pass; those from `heavy_pass` on are measured in the first `heavy_rounds` rounds only. With `whole_tree`, CPU and
    memory are those of all processes of a server, else of the one that holds the connections.
    Latency: `rate_messages` messages at `rate_per_s`, and `bursts` times ten at once, each after the last has arrived.
    """

    connections: int = 5_000
    rounds: int = 10
    in_flight: int = 256
    passes: tuple[int, ...] = MESSAGES_PER_PASS
    cost_connections: int = 0
    reopen_connections: int = 0
    reopen_rounds: int = 0
    heavy_pass: int = 100
    heavy_rounds: int = 2
    whole_tree: bool = False
    settle_s: float = 1.0
    rounds_s: float = 140.0
    cost_cpu_s: float = 0.5
    cost_wall_s: float = 1.0
    latency_rounds: int = 3
    rate_per_s: float = 4.0
    rate_messages: int = 5
    bursts: int = 1
    storm_connections: int = 10_000
    storms: int = 3
    quiet_connections: int = 20
    quiet_interval_s: float = 0.01
    interference_s: float = 5.0
    spread_workers: int = 2
    spread_connections: int = 2_000


QUICK = Plan(
    connections=1_000,
    rounds=3,
    rounds_s=30.0,
    settle_s=0.5,
    cost_cpu_s=0.25,
    cost_wall_s=0.5,
    latency_rounds=2,
    rate_messages=2,
    storm_connections=3_000,
    storms=1,
    interference_s=2.0,
    spread_connections=500,
)
"""For a look in under a minute. Its figures are rougher, and its connections fewer than the targets ask for."""
