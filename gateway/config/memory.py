"""`[memory]`: when the memory governor does what."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import Field, model_validator

from gateway.config.base import Section


class Memory(Section):
    """The memory governor: what happens, step by step, as memory runs out. Thresholds are used parts of the limit."""

    limit_bytes: Annotated[int, Field(ge=0, le=2**50)] = 0
    """Memory that the edge workers may have together; 0 = no limit but those of control group and machine."""
    check_interval_s: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """Time between two looks."""
    shrink_at: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Caches are emptied, no new connection gets compression, garbage is collected; 0 = 0.8 × `refuse_at`."""
    halve_at: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Send budgets are halved; 0 = 0.9 × `refuse_at`."""
    refuse_at: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """New connections are refused with 1013."""
    close_at: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The slowest clients are closed (3008), one by one; 0 = a third of the way from `refuse_at` to 1."""
    drain_at: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """One worker closes its clients (3001) and is replaced; 0 = two thirds of the way from `refuse_at` to 1."""
    hysteresis: Annotated[float, Field(ge=0.001, le=0.5)] = 0.05
    """How far below its threshold a step ends."""
    stalled_percent: Annotated[float, Field(ge=0, le=100)] = 20.0
    """Time in which processes wait for memory (PSI, some avg10) that makes it one step worse; 0 = not looked at."""
    closes_per_s: Annotated[float, Field(gt=0, le=10_000)] = 5.0
    """Slow clients that a worker closes in a second."""
    drain_interval_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    """Shortest time between two drains of workers on this machine."""
    reclaim_interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    """Shortest time between two collections of garbage under pressure: each is a short pause."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """`shrink_at` … `drain_at`, with nothing left open."""
        refuse, room = self.refuse_at, 1 - self.refuse_at
        return (
            self.shrink_at or 0.8 * refuse,
            self.halve_at or 0.9 * refuse,
            refuse,
            self.close_at or refuse + room / 3,
            self.drain_at or refuse + room * 2 / 3,
        )

    @model_validator(mode="after")
    def _ascending(self) -> Memory:
        steps = self.thresholds
        if any(low >= high for low, high in itertools.pairwise(steps)):
            shown = ", ".join(f"{step:.3g}" for step in steps)
            raise ValueError(f"shrink_at, halve_at, refuse_at, close_at and drain_at must ascend, and are {shown}")
        if self.hysteresis >= steps[0]:
            raise ValueError(f"hysteresis must be smaller than the first step, {steps[0]:.3g}: it would never end")
        return self
