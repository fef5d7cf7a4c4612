"""Composition root of the control process: builds its parts and wires them. No logic lives here."""

from __future__ import annotations

import asyncio
import socket
from contextlib import nullcontext
from functools import partial
from typing import Final

from gateway.auth.issue import sign_token
from gateway.broker import (
    ChannelLog,
    Connection,
    PresenceStore,
    RevocationStore,
    RulesStore,
    StreamStore,
    keep_functions,
    keep_rules,
)
from gateway.cache import AsyncCache
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.control import (
    Asking,
    Bus,
    CacheReport,
    ControlParts,
    ControlServer,
    Dashboard,
    Fleet,
    NodeRegistry,
    build_app,
    demo_model,
)
from gateway.control.demo_ask import cache_options
from gateway.control.server import open_listeners
from gateway.log import get_logger
from gateway.metrics import CounterTable, LatencyRecorder, names
from gateway.processes import WorkerEnd
from gateway.publisher.messages import Rules
from gateway.publisher.options import histories, publish_rules
from gateway.relay.counters import RelayReports
from gateway.streams.reaper import Reaper
from gateway.workers.link import run_worker

LARGE_ANSWERS: Final = 16
"""Commands in one round trip where each may answer with a page of a log."""


async def main(link: WorkerEnd, config: Config) -> None:
    """Serve the control port until the link says stop."""
    clock = SystemClock()
    redis = Connection(config.redis)
    prefix = config.redis.prefix
    table = CounterTable(link.spec.counters_fd, link.spec.counters_rows, link.spec.generations)
    latency = (
        LatencyRecorder(
            table.latency_row(table.rows), clock.monotonic(), clock.time(), slow_s=config.metrics.slow_ms / 1000
        )
        if config.metrics.latency
        else None
    )
    round_trip = partial(latency.record, names.OP_REDIS_ROUND_TRIP) if latency is not None else None
    writing = redis.queue(round_trip=round_trip)
    reading = redis.queue(batch=LARGE_ANSWERS, round_trip=round_trip)
    fleet = Fleet(table, config.server.workers, clock)
    nodes = NodeRegistry(writing, table, fleet, clock, prefix=prefix, node=link.spec.node)
    bus = Bus(
        commands=writing,
        log=ChannelLog(writing, reading, prefix=prefix),
        presence=PresenceStore(reading, prefix=prefix, lease_s=config.delivery.presence_lease_s),
        revocations=RevocationStore(writing, prefix=prefix),
        prefix=prefix,
    )

    def sign(user: str, ttl_s: float, channels: tuple[str, ...] = (), channel: str = "") -> str:
        auth = config.auth
        return sign_token(
            auth.hmac_secret,
            user=user,
            issued_at=clock.time(),
            ttl_s=ttl_s,
            channel=channel,
            channels=channels,
            audience=auth.audience,
            issuer=auth.issuer,
        )

    caches = CacheReport(reading, prefix=prefix)

    def sign_for(user: str, ttl_s: float, channel: str) -> str:
        return sign(user, ttl_s, channel=channel)

    asking = None
    if config.control.demo and config.streams.enabled and config.auth.hmac_secret:
        cache = AsyncCache(config.redis.url, prefix=prefix, options=cache_options())
        asking = Asking(cache, demo_model.answer, sign_for, clock)
    rules = Rules(
        namespaces=histories(config),
        max_bytes=config.limits.publication_bytes,
        channel_length=config.limits.channel_length,
    )
    outbox, ingest = None, None
    if config.outbox.url or config.outbox.ingest:
        from gateway.relay.wiring import IngestParts, RelayParts  # noqa: PLC0415 - loads SQLAlchemy

        outbox = RelayParts(config.outbox, redis, prefix, rules) if config.outbox.url else None
        ingest = IngestParts(config.outbox, redis, prefix, rules, clock) if config.outbox.ingest else None
    relays = [part for part in (outbox, ingest) if part is not None]
    reports = RelayReports(outbox.report if outbox else None, ingest.report if ingest else None)

    checked = config.auth.hmac_secret and not config.auth.insecure
    dashboard = Dashboard(
        table,
        fleet,
        bus,
        clock,
        publication_bytes=config.limits.publication_bytes,
        sign=sign if checked else None,
        caches=caches,
        relays=reports,
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
            asking=asking,
            latency=latency,
            dashboard=dashboard,
            caches=caches,
            relays=reports,
        )
    )
    listening = [socket.socket(fileno=fd) for fd in link.spec.listening]
    server = ControlServer(app, listening or open_listeners(config.control.host, config.control.port), link.ready)
    get_logger().info("control listening", host=config.control.host, port=config.control.port)
    try:
        async with asking or nullcontext(), asyncio.TaskGroup() as group:
            background = [
                group.create_task(part)
                for part in (
                    *(writing.run(), reading.run(), nodes.run(), keep_functions(writing)),
                    keep_rules(RulesStore(writing, prefix=prefix), publish_rules(config)),
                    *(dashboard.run(), caches.run()),
                )
            ]
            background += [group.create_task(part.run()) for part in relays]
            if config.streams.enabled:
                background.append(group.create_task(Reaper(StreamStore(writing, reading, prefix=prefix)).run()))
            serving = group.create_task(server.run_until_stopped())
            await link.stop.wait()
            server.stop()
            await serving
            for task in background:
                task.cancel()
    finally:
        if outbox is not None:
            await outbox.aclose()
        await redis.aclose()


if __name__ == "__main__":
    run_worker(main)
