"""Composition root of the control process: builds its parts and wires them. No logic lives here."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from gateway.auth.issue import sign_token
from gateway.broker import ChannelLog, CommandQueue, PresenceStore, RevocationStore, keep_functions
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.control import Bus, ControlParts, ControlServer, Fleet, NodeRegistry, build_app
from gateway.control.server import open_listeners
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.processes import WorkerEnd
from gateway.storage.redis import connect
from gateway.workers.link import run_worker

LARGE_ANSWERS: Final = 16
"""Commands in one round trip where each may answer with a page of a log."""


async def main(link: WorkerEnd, config: Config) -> None:
    """Serve the control port until the link says stop."""
    clock = SystemClock()
    redis = connect(config.redis)
    writing = CommandQueue(redis)
    reading = CommandQueue(redis, batch=LARGE_ANSWERS)
    prefix = config.redis.prefix
    table = CounterTable(link.spec.counters_fd, link.spec.counters_rows)
    fleet = Fleet(table, config.server.workers, clock)
    nodes = NodeRegistry(writing, table, fleet, clock, prefix=prefix, node=link.spec.node)
    bus = Bus(
        commands=writing,
        log=ChannelLog(writing, reading, prefix=prefix),
        presence=PresenceStore(reading, prefix=prefix, lease_s=config.delivery.presence_lease_s),
        revocations=RevocationStore(writing, prefix=prefix),
        prefix=prefix,
    )

    def sign(user: str, ttl_s: float) -> str:
        auth = config.auth
        return sign_token(
            auth.hmac_secret,
            user=user,
            issued_at=clock.time(),
            ttl_s=ttl_s,
            audience=auth.audience,
            issuer=auth.issuer,
        )

    app = build_app(
        ControlParts(
            config=config,
            table=table,
            clock=clock,
            bus=bus,
            fleet=fleet,
            nodes=nodes,
            sign=sign if config.auth.hmac_secret else None,
        )
    )
    server = ControlServer(app, open_listeners(config.control.host, config.control.port), link.ready)
    get_logger().info("control listening", host=config.control.host, port=config.control.port)
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(part) for part in (writing.run(), reading.run(), nodes.run(), keep_functions(writing))
            ]
            serving = group.create_task(server.run_until_stopped())
            await link.stop.wait()
            server.stop()
            await serving
            for task in background:
                task.cancel()
    finally:
        await redis.aclose()


if __name__ == "__main__":
    sys.exit(run_worker(main))
