"""What can be chosen for a cache, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from gateway.cache.request import DEFAULTS, Defaults
from gateway.config import Config
from gateway.errors import CacheInvalid
from gateway.streams.text import MAX_BYTES

DAY_S: Final = 86_400.0
MAX_KINDS: Final = 32
"""Kinds of one cache: each is a value of a label of the metrics."""


class Kind(NamedTuple):
    """What holds for one kind of answers."""

    ttl_s: float
    """Time for which an answer is kept, 1 s to a year; each draws its own, see `Options.jitter`."""
    keep_sampled: bool = False
    """Keep answers, too, whose temperature is above 0."""


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "prompt_response": Kind(DAY_S),
        "evaluation_result": Kind(DAY_S / 2),
        "system_prompt": Kind(7 * DAY_S),
    }
)


class Options(NamedTuple):
    """Choices, with their defaults."""

    kinds: Mapping[str, Kind] = KINDS
    defaults: Defaults = DEFAULTS
    """Parameters that make no difference to the key when they are spelled out."""
    jitter: float = 0.1
    """Part of its kind's `ttl_s` by which the time of an answer differs at most, 0 to 0.5: what was stored together
    does not end together."""
    error_ttl_s: float = 30.0
    """Time for which AnswerRefused is kept."""
    budget_s: float = 0.1
    """Time that Redis may take of a request before it goes on without."""
    local_entries: int = 1000
    """Answers in the memory of this process; 0 = none."""
    local_bytes: int = 33_554_432
    """Bytes of these."""
    local_ttl_s: float = 60.0
    """Time for which a local copy is served without asking Redis. Afterwards it is only used while Redis is away."""
    value_bytes: int = 1_048_576
    """A larger value is not stored, and not read: bytes before compression, 8 MiB at most."""
    connections: int = 50
    """Connections to Redis for values."""
    lease_s: float = 10.0
    """A producer that is silent for so long is dead, and one of those who wait takes over."""
    retry_for_s: float = 10.0
    """Time for which Redis may be away in the middle of an answer before whoever waits for it produces it."""
    breaker_failures: int = 5
    """Failures of Redis in a row after which it is not asked for a while."""
    breaker_open_s: float = 2.0
    """That while."""
    stats_interval_s: float = 2.0
    """Time between two writes of the counters to Redis."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """From the gateway's configuration."""
        settings = config.cache
        return cls(
            kinds={
                name: Kind(getattr(settings, f"{name}_ttl_s"), any(name == kept for kept in settings.keep_sampled))
                for name in KINDS
            },
            jitter=settings.jitter,
            error_ttl_s=settings.error_ttl_s,
            budget_s=settings.budget_ms / 1000,
            local_entries=settings.local_entries,
            local_bytes=settings.local_bytes,
            local_ttl_s=settings.local_ttl_s,
            value_bytes=settings.value_bytes,
            connections=settings.connections,
            lease_s=config.streams.lease_s,
            breaker_failures=settings.breaker_failures,
            breaker_open_s=settings.breaker_open_s,
            stats_interval_s=settings.stats_interval_s,
        )

    def check(self) -> None:
        """Raises CacheInvalid."""
        for name, least, most in (
            ("jitter", 0, 0.5),
            ("error_ttl_s", 1, 86_400),
            ("budget_s", 0.001, 60),
            ("local_entries", 0, 10_000_000),
            ("local_bytes", 0, 2**40),
            ("local_ttl_s", 0, 31_536_000),
            ("value_bytes", 1, MAX_BYTES),
            ("connections", 1, 10_000),
            ("lease_s", 0.1, 3600),
            ("retry_for_s", 0, 86_400),
            ("breaker_failures", 1, 1000),
            ("breaker_open_s", 0.01, 3600),
            ("stats_interval_s", 0.05, 3600),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise CacheInvalid(name, f"must be from {least} to {most}, is {value}")
        if not 0 < len(self.kinds) <= MAX_KINDS:
            raise CacheInvalid("kinds", f"must be 1 to {MAX_KINDS}")
        for name, kind in self.kinds.items():
            if not name.replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
                raise CacheInvalid(f"kinds.{name}", "must be named with 1 to 64 letters, digits and _")
            if not 1 <= kind.ttl_s <= 31_536_000:
                raise CacheInvalid(f"kinds.{name}.ttl_s", f"must be from 1 to 31536000, is {kind.ttl_s}")
