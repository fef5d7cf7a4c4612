"""What a cache counts, for each kind: here since it was made, and what has not been told to Redis yet."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple


class KindStatistics(NamedTuple):
    """One kind. Every call counts once: as a hit of one level, as a miss, or as a bypass."""

    hits_local: int = 0
    hits_redis: int = 0
    hits_coalesced: int = 0
    """Calls that got what another call was producing."""
    hits_stale: int = 0
    misses: int = 0
    bypasses: int = 0
    refusals: int = 0
    """Hits that were AnswerRefused."""
    failures: int = 0
    """Misses whose producer failed."""
    unreadable: int = 0
    """Values that were damaged, of another version or too large."""
    unstored: int = 0
    """Answers that could not be written to Redis."""
    takeovers: int = 0
    """Times that a producer died, and one who waited for it took over."""
    bytes_saved: int = 0
    """Bytes of answers that were not produced again."""
    bytes_plain: int = 0
    """Bytes of values that were stored, before compression."""
    bytes_packed: int = 0
    """What they took in Redis."""

    @property
    def hits(self) -> int:
        return self.hits_local + self.hits_redis + self.hits_coalesced + self.hits_stale

    @property
    def hit_rate(self) -> float:
        """Hits among hits and misses, 0 to 1; bypasses are neither."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


COUNTERS: Final = KindStatistics._fields
"""Names of what is counted for each kind."""
PROCESS: Final = "*"
"""In the place of a kind: what is counted for the process."""
PROCESS_COUNTERS: Final = ("pool_waits", "pool_reconnects", "redis_failures")
"""Names of that: callers that waited for a connection, connections opened again, times that Redis was given up."""


class Tallies:
    """The counters of one process."""

    def __init__(self) -> None:
        self._total: Counter[tuple[str, str]] = Counter()
        self._news: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, counter: str, number: int = 1) -> None:
        """`counter`: one of COUNTERS."""
        if number:
            self._total[kind, counter] += number
            self._news[kind, counter] += number

    def of(self, kind: str) -> KindStatistics:
        return KindStatistics(*(self._total[kind, counter] for counter in COUNTERS))

    def take_news(self) -> Counter[tuple[str, str]]:
        """What was counted since the last time."""
        news, self._news = self._news, Counter()
        return news

    def give_back(self, news: Counter[tuple[str, str]]) -> None:
        """It could not be told."""
        self._news.update(news)
