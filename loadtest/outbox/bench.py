"""Rows per second, and the time from commit to client. Beside them, in the same run, plain publishing with history."""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from typing import Final, NamedTuple

from redis.asyncio import Redis

from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import Gateway
from loadtest.faults.publisher import HISTORY_SIZE, HISTORY_TTL_S
from loadtest.outbox.databases import Database
from loadtest.outbox.faults import CHANNELS, CHUNK
from loadtest.outbox.watcher import Watcher, watching

SINGLES: Final = 200
"""Rows that are committed one by one for the latency."""
DEADLINE_S: Final = 300.0
PIPELINE: Final = 500


class Figures(NamedTuple):
    """What was measured on one database."""

    database: str
    rows_per_s: float
    plain_per_s: float
    p50_ms: float
    p99_ms: float


async def bench(database: Database, gateway: Gateway, redis_url: str, stages: Stages, *, rows: int) -> Figures:
    """`rows` each way, all the way to a client's socket. Raises BenchError."""
    async with watching(gateway.port, gateway.token("watcher"), CHANNELS) as watcher:
        with stages.stage(f"{database.name}: plain publishing"):
            begin = time.monotonic()
            await _publish(redis_url, rows)
            await _wait(watcher, rows)
            plain = rows / (time.monotonic() - begin)
        with stages.stage(f"{database.name}: outbox"):
            for start in range(rows, 2 * rows, CHUNK):
                numbers = range(start, min(2 * rows, start + CHUNK))
                await database.insert([(f"event-{n}", CHANNELS[n % len(CHANNELS)], str(n)) for n in numbers])
            # What is left when the last insert is done may be little: the rate counts from the first arrival.
            await _wait(watcher, 2 * rows)
            arrived = sorted(at for number, at in watcher.at.items() if number >= rows)
            relayed = rows / (arrived[-1] - arrived[0])
        with stages.stage(f"{database.name}: commit → client"):
            took = []
            for number in range(2 * rows, 2 * rows + SINGLES):
                await database.insert([(f"event-{number}", CHANNELS[number % len(CHANNELS)], str(number))])
                committed = time.monotonic()
                await _wait(watcher, number + 1)
                took.append((watcher.at[number] - committed) * 1000)
    took.sort()
    return Figures(database.name, relayed, plain, took[len(took) // 2], took[int(len(took) * 0.99)])


async def _publish(redis_url: str, rows: int) -> None:
    source = resources.files("gateway.broker").joinpath("lua", "publish.lua").read_text(encoding="utf-8")
    client = Redis.from_url(redis_url)
    try:
        digest = await client.script_load(source)
        for start in range(0, rows, PIPELINE):
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(start, min(rows, start + PIPELINE)):
                    channel = CHANNELS[number % len(CHANNELS)]
                    keys = (f"gw:log:{channel}", f"gw:meta:{channel}", f"gw:done:{channel}:plain-{number}")
                    pipeline.evalsha(
                        *(digest, 3, *keys, f"gw:pub:{channel}", str(number), "-", HISTORY_SIZE),
                        *(HISTORY_TTL_S * 1000, 86_400_000, "epoch", 300_000, 0, ""),
                    )
                await pipeline.execute()
    finally:
        await client.aclose()


async def _wait(watcher: Watcher, count: int) -> None:
    until = time.monotonic() + DEADLINE_S
    while len(watcher.at) < count:
        if time.monotonic() > until:
            raise BenchError(f"{count - len(watcher.at):,} publications have not come in {DEADLINE_S:.0f} s")
        await asyncio.sleep(0.001)
