"""How fast this machine publishes: plain PUBLISH and publications with history, in turns.

    python -m gateway.publisher.examples.burst redis://localhost:6379/0 --messages 20000 --rounds 5

Prints one line of JSON: publications per second of each round, without history (`plain`), into one channel with history
(`kept`), and into 1,000 of them (`spread`). The logs keep 1,000 entries and end after a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence

from gateway.publisher import AsyncPublisher, History, Message, RawJSON

DATA = b'"' + b"x" * 98 + b'"'
PLAIN = ("burst:plain",)
KEPT = ("burst-kept:0",)
SPREAD = tuple(f"burst-kept:{number}" for number in range(1000))


async def burst(publisher: AsyncPublisher, channels: Sequence[str], messages: int) -> float:
    """Publications per second of `messages` that are all at hand, on the channels in turns."""
    batch = [Message(channel=channels[number % len(channels)], data=RawJSON(DATA)) for number in range(messages)]
    began = time.perf_counter()
    await publisher.publish_many(batch)
    return messages / (time.perf_counter() - began)


async def measure(url: str, messages: int, rounds: int) -> dict[str, list[float]]:
    """The rates of each round. The three kinds take turns, so that they meet the same machine."""
    rates: dict[str, list[float]] = {"plain": [], "kept": [], "spread": []}
    kinds = {"plain": PLAIN, "kept": KEPT, "spread": SPREAD}
    namespaces = {"default": None, "burst": None, "burst-kept": History(size=1000, ttl_s=60)}
    async with AsyncPublisher(url, namespaces=namespaces) as publisher:
        for channels in kinds.values():
            await burst(publisher, channels, 1000)
        for _ in range(rounds):
            for kind, channels in kinds.items():
                rates[kind].append(await burst(publisher, channels, messages))
    return rates


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m gateway.publisher.examples.burst")
    parser.add_argument("url", help="where Redis is")
    parser.add_argument("--messages", type=int, default=20_000, help="publications in one round of one kind")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    rates = asyncio.run(measure(options.url, options.messages, options.rounds))
    sys.stdout.write(json.dumps({kind: [round(rate) for rate in found] for kind, found in rates.items()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
