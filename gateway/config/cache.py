"""The response cache: what backends that read this configuration keep, and how they ask Redis for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Count, Section

Ttl = Annotated[float, Field(ge=1, le=31_536_000)]


class Cache(Section):
    """The response cache of backends (`gateway.cache`). The gateway itself only shows what they count."""

    prompt_response_ttl_s: Ttl = 86_400.0
    """Time for which answers of the kind `prompt_response` are kept; each differs by up to `jitter`."""
    evaluation_result_ttl_s: Ttl = 43_200.0
    """The same, for `evaluation_result`."""
    system_prompt_ttl_s: Ttl = 604_800.0
    """The same, for `system_prompt`."""
    keep_sampled: tuple[Literal["prompt_response", "evaluation_result", "system_prompt"], ...] = ()
    """Kinds whose answers are kept although their temperature is above 0."""
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Part of its time by which that of an answer differs at most."""
    error_ttl_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """Time for which is kept that a request is refused every time."""
    budget_ms: Annotated[float, Field(ge=1, le=60_000)] = 100.0
    """Time that Redis may take of a request before it goes on without."""
    local_entries: Count = 1000
    """Answers in the memory of a process; 0 = none."""
    local_bytes: Count = 33_554_432
    """Bytes of these."""
    local_ttl_s: Annotated[float, Field(ge=0, le=31_536_000)] = 60.0
    """Time for which one is served without asking Redis; afterwards only while Redis is away."""
    value_bytes: Annotated[int, Field(ge=1, le=8_388_608)] = 1_048_576
    """A larger value is neither stored nor read; before compression."""
    connections: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Connections of a process to Redis for values."""
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failures of Redis in a row after which it is not asked for a while."""
    breaker_open_s: Annotated[float, Field(ge=0.01, le=3600)] = 2.0
    """That while."""
    stats_interval_s: Annotated[float, Field(ge=0.05, le=3600)] = 2.0
    """Time between two writes of a process's counters to Redis."""
