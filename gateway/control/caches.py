"""What the response caches of all backends count: read from Redis, for `/metrics` and the dashboard.

Backends write to one hash (`gateway.cache.reporting`); every node reads the same, so of several nodes one is scraped
for these metrics, or their maximum is taken. What is in the hash is data: names that no cache of this version writes
are left out, and so is a kind too many, because kinds are values of a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NoReturn

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.cache.options import MAX_KINDS
from gateway.cache.tallies import COUNTERS, PROCESS, PROCESS_COUNTERS, KindStatistics
from gateway.control.bus import RunsCommands
from gateway.errors import BrokerError
from gateway.log import get_logger
from protocol.redis_contract import cache_stats_key

INTERVAL_S: Final = 2.0
"""Time between two reads."""
LEVELS: Final = ("local", "redis", "coalesced", "stale")
"""Values of the label `level`."""


class CacheKind(msgspec.Struct, frozen=True):
    """One kind, of all backends, since the hash was begun."""

    kind: str
    hits: int
    hit_rate: float
    """Hits among hits and misses, 0 to 1."""
    local: int
    redis: int
    coalesced: int
    stale: int
    misses: int
    bypasses: int
    failures: int
    takeovers: int
    bytes_saved: int


class CacheReport:
    """The newest numbers. `run` must run for there to be any."""

    def __init__(self, commands: RunsCommands, *, prefix: str) -> None:
        self._commands = commands
        self._key = cache_stats_key(prefix)
        self.kinds: dict[str, KindStatistics] = {}
        """By name, sorted."""
        self.process = dict.fromkeys(PROCESS_COUNTERS, 0)

    async def run(self) -> NoReturn:
        """Read until cancelled. While Redis is away the last numbers stay."""
        while True:
            try:
                await self.read()
            except BrokerError as error:
                get_logger().debug("cache statistics not read", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def read(self) -> None:
        """Read once. Raises BrokerError."""
        fields = await self._commands.submit("HGETALL", self._key)
        if not isinstance(fields, dict):  # RESP2: a list of names and values
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        found: dict[str, dict[str, int]] = {}
        for field, value in fields.items():
            kind, _, counter = field.decode(errors="replace").partition(" ")
            known = PROCESS_COUNTERS if kind == PROCESS else COUNTERS
            if counter in known and value.isdigit() and (kind in found or len(found) <= MAX_KINDS):
                found.setdefault(kind, {})[counter] = int(value)
        self.process = dict.fromkeys(PROCESS_COUNTERS, 0) | found.pop(PROCESS, {})
        self.kinds = {kind: KindStatistics(**counted) for kind, counted in sorted(found.items())}

    def state(self) -> list[CacheKind]:
        """For the dashboard."""
        return [
            CacheKind(
                kind=kind,
                hits=counted.hits,
                hit_rate=round(counted.hit_rate, 4),
                local=counted.hits_local,
                redis=counted.hits_redis,
                coalesced=counted.hits_coalesced,
                stale=counted.hits_stale,
                misses=counted.misses,
                bypasses=counted.bypasses,
                failures=counted.failures,
                takeovers=counted.takeovers,
                bytes_saved=counted.bytes_saved,
            )
            for kind, counted in self.kinds.items()
        ]


class CacheCollector(Collector):
    """The metrics `gateway_cache_…`."""

    def __init__(self, report: CacheReport) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        kinds = self._report.kinds
        hits = CounterMetricFamily(
            "gateway_cache_hits", "Answers that were not produced again, of all backends", labels=["kind", "level"]
        )
        rate = GaugeMetricFamily("gateway_cache_hit_rate", "Hits among hits and misses, 0 to 1", labels=["kind"])
        stored = CounterMetricFamily(
            "gateway_cache_stored_bytes",
            "Values written to Redis, before and after compression",
            labels=["kind", "form"],
        )
        for kind, counted in kinds.items():
            for level in LEVELS:
                hits.add_metric([kind, level], getattr(counted, f"hits_{level}"))
            rate.add_metric([kind], counted.hit_rate)
            stored.add_metric([kind, "plain"], counted.bytes_plain)
            stored.add_metric([kind, "packed"], counted.bytes_packed)
        yield from (hits, rate, stored)
        for name, text in (
            ("misses", "Answers that were produced"),
            ("bypasses", "Answers that were produced and not to be kept"),
            ("refusals", "Hits that were a refusal"),
            ("failures", "Producers that failed"),
            ("unreadable", "Stored values that were damaged, of another version or too large"),
            ("unstored", "Answers that could not be written to Redis"),
            ("takeovers", "Producers that died, and were replaced by one who waited"),
            ("bytes_saved", "Bytes of answers that were not produced again"),
        ):
            family = CounterMetricFamily(f"gateway_cache_{name}", text, labels=["kind"])
            for kind, counted in kinds.items():
                family.add_metric([kind], getattr(counted, name))
            yield family
        for name, text in (
            ("pool_waits", "Times that a caller waited for a free connection to Redis"),
            ("pool_reconnects", "Connections of caches to Redis that were opened again"),
            ("redis_failures", "Times that a cache gave up Redis for a while"),
        ):
            yield CounterMetricFamily(f"gateway_cache_{name}", text, value=self._report.process[name])
