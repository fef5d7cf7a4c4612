"""A relay in a process of its own, so that it can be killed: `python -m tests.relay.relay_process <settings> <redis>`.

Prints a line when it runs. Ends with the process that started it: when its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

from gateway.broker import Connection
from gateway.config import Outbox
from gateway.config import Redis as RedisSettings
from gateway.publisher.messages import History, Rules
from gateway.relay.wiring import RelayParts

RULES = Rules(
    namespaces={"default": None, "chat": History(100_000, 300)},
    max_bytes=100_000,
    channel_length=255,
)


async def main(settings: Outbox, redis_url: str) -> None:
    client = Connection(RedisSettings(url=redis_url))
    parts = RelayParts(settings, client, "gw", RULES)
    running = asyncio.get_running_loop().create_task(parts.run())
    print("running", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()
    await asyncio.wait([running])
    await parts.aclose()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(Outbox.model_validate_json(sys.argv[1]), sys.argv[2]))
