"""Starts an embedded Redis, prints its folder, and waits to be killed. Run by test_embedded.py."""

from __future__ import annotations

import asyncio
import sys

from gateway.config import Log
from gateway.log import configure_logging
from gateway.storage.embedded import EmbeddedRedis


async def main(port: int) -> None:
    configure_logging(Log(), process="owner")
    redis = EmbeddedRedis(port)
    await redis.start()
    print(redis.folder, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
