"""Composition root of the control process: builds its parts and wires them. No logic lives here."""

from __future__ import annotations

import asyncio
import socket
import sys

from gateway.auth.issue import sign_token
from gateway.broker import CommandQueue
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.control import ControlParts, ControlServer, build_app
from gateway.control.server import open_listeners
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.processes import WorkerEnd
from gateway.storage.redis import connect
from gateway.workers.link import run_worker
from protocol.redis_contract import publish_channel


async def main(link: WorkerEnd, config: Config) -> None:
    """Serve the control port until the link says stop."""
    clock = SystemClock()
    redis = connect(config.redis)
    queue = CommandQueue(redis)

    async def publish(channel: str, payload: bytes) -> int:
        return await queue.publish(publish_channel(config.redis.prefix, channel), payload)

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
            table=CounterTable(link.spec.counters_fd, link.spec.counters_rows, link.spec.generations),
            clock=clock,
            publish=publish,
            sign=sign if config.auth.hmac_secret else None,
        )
    )
    listening = [socket.socket(fileno=fd) for fd in link.spec.listening]
    server = ControlServer(app, listening or open_listeners(config.control.host, config.control.port), link.ready)
    get_logger().info("control listening", host=config.control.host, port=config.control.port)
    try:
        async with asyncio.TaskGroup() as group:
            queueing = group.create_task(queue.run())
            serving = group.create_task(server.run_until_stopped())
            await link.stop.wait()
            server.stop()
            await serving
            queueing.cancel()
    finally:
        await redis.aclose()


if __name__ == "__main__":
    sys.exit(run_worker(main))
