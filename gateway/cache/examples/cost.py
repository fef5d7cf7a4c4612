"""What a hit costs, beside the least that it could: a GET through redis-py and a parse. `make bench-cache`.

    python -m gateway.cache.examples.cost

Starts a Redis of its own, and takes a few seconds. Microseconds of one call after another in one process, the best of
some rounds; ratios to the floor of the same run are what can be compared between machines.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.cache import Answer, AsyncCache, Computed, Draft, Options, Request
from gateway.cache.request import digest_of
from gateway.storage.binary import find_server
from gateway.storage.embedded import server_options
from gateway.storage.folder import SOCKET_NAME

CALLS: Final = 300
"""In a row, unless the command line has another number."""
ROUNDS: Final = 5
WORDS: Final = (
    *("light", "of", "short", "waves", "is", "scattered", "more", "than", "that", "long", "ones", "by", "the", "air"),
    *("above", "us,", "and", "at", "noon", "it", "comes", "from", "all", "sides", "while", "dusk", "most", "has"),
    *("gone", "elsewhere", "on", "its", "way", "through", "blue", "sky", "because", "red", "evening.", "So", "what"),
)


async def main(calls: int = CALLS) -> None:
    """Measure, and print a table."""
    folder = Path(tempfile.mkdtemp(prefix="gw-cost-", dir="/tmp"))  # a unix socket's path must be short
    server = await asyncio.create_subprocess_exec(
        find_server().path, *server_options(folder), stdout=subprocess.DEVNULL
    )
    try:
        await _measure(f"unix://{folder / SOCKET_NAME}", calls)
    finally:
        server.terminate()
        await server.wait()
        shutil.rmtree(folder)


async def _measure(url: str, calls: int) -> None:
    client = Redis.from_url(url)
    while True:
        try:
            await client.ping()
            break
        except (OSError, RedisConnectionError):
            await asyncio.sleep(0.01)
    picks = random.Random(7)  # noqa: S311 - the same text in every run
    text = " ".join(picks.choice(WORDS) for _ in range(700))
    value = {"text": text, "usage": {"tokens": 900}}
    request = Request(
        kind="prompt_response",
        tenant="acme",
        provider="example",
        model="parrot",
        parameters={"temperature": 0, "max_tokens": 1000},
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}],
    )
    await client.set("floor", orjson.dumps(value))

    async def compute() -> Any:
        return value

    async def produce(draft: Draft) -> Any:
        await draft.append(text)

    async def floor() -> Any:
        return orjson.loads(await client.get("floor") or b"")

    async def key() -> Any:
        return digest_of(request)

    always = Options(local_ttl_s=0.0, budget_s=5.0)
    async with AsyncCache(url, options=Options(budget_s=5.0)) as near, AsyncCache(url, options=always) as far:
        await near.get_or_compute(request, compute)
        await (await near.get_or_stream(request, produce)).text()
        while near.stats().flights:  # noqa: ASYNC110 - an end that is not announced
            await asyncio.sleep(0.01)

        async def from_memory() -> Any:
            _must_be("local", await near.get_or_compute(request, compute))

        async def from_redis() -> Any:
            _must_be("redis", await far.get_or_compute(request, compute))

        async def stream_from_redis() -> Any:
            answer = await far.get_or_stream(request, produce)
            _must_be("redis", answer)
            await answer.text()

        rows = {
            "floor: GET and parse": floor,
            "the key alone": key,
            "get_or_compute, from memory": from_memory,
            "get_or_compute, from Redis": from_redis,
            "get_or_stream, from Redis": stream_from_redis,
        }
        found = dict.fromkeys(rows, float("inf"))
        for _ in range(ROUNDS):  # side by side: what else the machine does meets all of them
            for name, call in rows.items():
                found[name] = min(found[name], await _microseconds(call, calls))
        stats = near.stats().kinds["prompt_response"]
    await client.aclose()
    least = found["floor: GET and parse"]
    for name, took in found.items():
        sys.stdout.write(f"{name:30} {took:8.1f} µs   {took / least:5.2f} × floor\n")
    saved = 1 - stats.bytes_packed / stats.bytes_plain
    sys.stdout.write(f"a value of {stats.bytes_plain} bytes takes {stats.bytes_packed} in Redis: {saved:.0%} saved\n")


def _must_be(level: str, found: Answer | Computed) -> None:
    if found.level != level:
        raise RuntimeError(f"{found.level}, not {level}: what was measured is something else")


async def _microseconds(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - began) / calls * 1e6


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:2])))
