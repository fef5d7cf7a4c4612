"""Composition root of the control process: builds its parts and wires them. No logic lives here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Final

from gateway.auth.issue import sign_token
from gateway.broker import CommandQueue
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.control import Backends, ControlParts, ControlServer, NodeRegistry, build_app
from gateway.control.server import open_listeners
from gateway.errors import BrokerError
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.processes import WorkerEnd
from gateway.storage.redis import connect
from gateway.workers.link import run_worker

LARGE_ANSWERS: Final = 4
"""Commands in one round trip where each may answer with a page of a log."""

WITHDRAW_WITHIN_S: Final = 1.0
"""Time that Redis has, at the end, to forget the workers of this node."""


async def main(link: WorkerEnd, config: Config) -> None:
    """Serve the control port until the link says stop."""
    clock = SystemClock()
    redis = connect(config.redis)
    writes = CommandQueue(redis)
    reads = CommandQueue(redis, batch=LARGE_ANSWERS)
    table = CounterTable(link.spec.counters_fd, link.spec.counters_rows)
    nodes = NodeRegistry(
        table, writes, clock, prefix=config.redis.prefix, node=link.spec.node, host=socket.gethostname()
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
            backends=Backends.on(writes, reads, nodes, config),
            sign=sign if config.auth.hmac_secret else None,
        )
    )
    server = ControlServer(app, open_listeners(config.control.host, config.control.port), link.ready)
    get_logger().info("control listening", host=config.control.host, port=config.control.port)
    try:
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(part) for part in (writes.run(), reads.run(), nodes.run())]
            serving = group.create_task(server.run_until_stopped())
            await link.stop.wait()
            server.stop()
            await serving
            with contextlib.suppress(BrokerError, TimeoutError):  # the entries are forgotten by themselves, later
                async with asyncio.timeout(WITHDRAW_WITHIN_S):
                    await nodes.withdraw()
            for task in background:
                task.cancel()
    finally:
        await redis.aclose()


if __name__ == "__main__":
    sys.exit(run_worker(main))
