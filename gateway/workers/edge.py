"""The edge worker: builds the parts of one WebSocket process and wires them together. No logic of its own.

Started by the supervisor as `python -m gateway.workers.edge --link-fd N`.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import uuid
from functools import partial
from pathlib import Path
from typing import Final

from gateway.auth import KeySet, Revocations, TokenVerifier
from gateway.backend import Hooks
from gateway.broker import (
    ChannelLog,
    CommandQueue,
    Connection,
    LifecycleStore,
    PresenceStore,
    RevocationStore,
    StreamStore,
    UserPlaces,
)
from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.edge import (
    AddressCounts,
    Admission,
    Canary,
    Compression,
    Deadlines,
    HandshakePace,
    KeepaliveWheel,
    Listener,
    Opening,
    Readiness,
    Relief,
    Shared,
    Tls,
    drain,
    tend,
)
from gateway.hub import CatchUp, ChangeFanout, Fanout, Hub, Lifecycle, Presence, UserIndex
from gateway.log import get_logger
from gateway.metrics import CounterTable, LatencyRecorder, names
from gateway.overload import Governor, Heap, MemoryProbe, Peers, find_malloc_trim, own_memory
from gateway.processes import Drain, WorkerEnd
from gateway.session import (
    Control,
    Desk,
    Failures,
    RateLimit,
    Rates,
    Session,
    SessionContext,
    UserLimit,
    channels_of_everyone,
    members,
)
from gateway.streams.records import condense
from gateway.workers.link import run_worker
from protocol.codes import SHUTDOWN
from protocol.redis_contract import canary_channel, control_channel

STOPPING_PATIENCE_S: Final = 1.0
"""Time that handshakes under way get when the gateway stops; when a worker is rolled each has its whole time-out."""
LARGE_ANSWERS: Final = 16
"""Commands in one round trip where each may answer with a page of a log."""


async def main(link: WorkerEnd, config: Config) -> None:
    spec = link.spec
    clock = SystemClock()
    log = get_logger().bind()  # once: the proxy would look for its logger in each call
    table = CounterTable(spec.counters_fd, spec.counters_rows)
    counters = table.row(spec.slot)
    latency = (
        LatencyRecorder(
            table.latency_row(spec.slot), clock.monotonic(), clock.time(), slow_s=config.metrics.slow_ms / 1000
        )
        if config.metrics.latency
        else None
    )
    round_trip = partial(latency.record, names.OP_REDIS_ROUND_TRIP) if latency is not None else None
    addresses = AddressCounts(
        [table.addresses(index) for index in range(table.rows)],
        spec.slot,
        lambda index: table.row(index)[names.PID] > 0,
        table.seed,
    )
    if config.limits.connections_per_ip:
        addresses.clear()
    counters[names.PID] = os.getpid()
    counters[names.STARTED_S] = int(clock.time())

    keys = KeySet.from_settings(config.auth, clock=clock)
    redis = Connection(config.redis)
    publishing = redis.queue(round_trip=round_trip)
    reading = redis.queue(batch=LARGE_ANSWERS, round_trip=round_trip)
    channel_log = ChannelLog(publishing, reading, prefix=config.redis.prefix)
    presence = Presence(
        PresenceStore(publishing, prefix=config.redis.prefix, lease_s=config.delivery.presence_lease_s),
        PresenceStore(reading, prefix=config.redis.prefix, lease_s=config.delivery.presence_lease_s),
        ChangeFanout(
            counters,
            slice_deliveries=config.delivery.slice_deliveries,
            queue_messages=config.delivery.queue_messages,
        ),
        clock,
        lease_s=config.delivery.presence_lease_s,
    )
    readiness = Readiness(counters)
    catch_up = CatchUp(counters, condense)
    fanout = Fanout(
        counters,
        catch_up.stalled,
        slice_deliveries=config.delivery.slice_deliveries,
        queue_messages=config.delivery.queue_messages,
        queue_bytes=config.delivery.queue_bytes,
        latency=latency,
    )
    subscriber = redis.subscriber()
    canary = Canary(
        publishing.publish,
        subscriber.subscribe,
        readiness.canary,
        clock,
        channel=canary_channel(config.redis.prefix, uuid.uuid4().hex),
        interval_s=config.redis.canary_interval_s,
        latency=latency,
    )
    hub = Hub(
        subscriber,
        fanout,
        catch_up,
        channel_log,
        presence.deliver_change,
        counters,
        clock,
        prefix=config.redis.prefix,
        namespaces=config.namespaces,
        linger_s=config.delivery.unsubscribe_delay_s,
        publication_bytes=config.limits.publication_bytes,
        redis_state_changed=canary.redis_changed,
    )
    streams = Desk(StreamStore(publishing, reading, prefix=config.redis.prefix), clock)
    hub.handle(canary.channel, canary.heard, missed=streams.views.redis_is_back)
    hooks = Hooks(config.backend, counters, log, clock)
    lifecycle = make_lifecycle(config, publishing, counters, clock, node=spec.node)
    users: UserIndex[Session] = UserIndex()
    user_places = UserPlaces(
        publishing, prefix=config.redis.prefix, place=f"{spec.node}/{spec.slot}", token=secrets.token_hex(6)
    )
    user_limit = UserLimit(
        user_places,
        users,
        counters,
        clock,
        limit=config.limits.connections_per_user,
        close_oldest=config.limits.user_limit_policy == "close_oldest",
    )
    sessions = SessionContext(
        config=config,
        hub=hub,
        users=users,
        broker=publishing,
        channel_log=channel_log,
        presence=presence,
        verifier=TokenVerifier(
            keys,
            audience=config.auth.audience,
            issuer=config.auth.issuer,
            leeway_s=config.auth.leeway_s,
            anonymous=config.auth.anonymous,
            clock=clock,
        ),
        revocations=Revocations(clock),
        clients={},
        counters=counters,
        clock=clock,
        log=log,
        node=spec.node,
        rate=RateLimit(config.limits.commands_per_s, config.limits.commands_burst),
        everyone=channels_of_everyone(config.namespaces),
        latency=latency,
        backend=hooks.backend,
        lifecycle=lifecycle,
        streams=streams if config.streams.enabled else None,
        rates=Rates(config.limits),
        failures=Failures(clock, counters, allowed=config.limits.auth_failures, longest_s=config.limits.auth_delay_s),
        user_limit=user_limit if config.limits.connections_per_user else None,
    )
    control = Control(
        sessions,
        RevocationStore(reading, prefix=config.redis.prefix),
        publishing,
        worker=f"{spec.node}/{spec.name}",
    )
    hub.handle(control_channel(config.redis.prefix), control.received, missed=control.redis_is_back)
    subscriber.subscribe(control_channel(config.redis.prefix))
    pace = HandshakePace(config.limits.handshakes_per_s, config.limits.handshake_places, counters, clock)
    shared = Shared(
        config=config,
        session=sessions,
        counters=counters,
        log=log,
        wheel=KeepaliveWheel(
            config.keepalive.ping_interval_s,
            config.keepalive.pong_timeout_s,
            random.random,
            max_age_s=config.server.max_connection_age_s,
        ),
        admission=Admission(config, pace, addresses, counters, random.random),
        compression=Compression(counters, config.delivery),
        handshakes=Deadlines(clock, config.limits.connect_timeout_s),
        connects=Deadlines(clock, config.limits.connect_timeout_s),
        closings=Deadlines(clock, config.limits.close_timeout_s),
        ready=readiness.answer,
    )
    tls = (
        Tls(
            config.server,
            lambda: Opening(shared),
            counters,
            handshake_s=config.limits.connect_timeout_s,
            shutdown_s=config.limits.close_timeout_s,
        )
        if config.server.tls_cert
        else None
    )
    listener = Listener(
        config.server.host,
        config.server.port,
        lambda: Opening(shared),
        counters,
        max_connections=config.limits.max_connections,
        secure=tls.accept if tls is not None else None,
    )
    shared.on_change = listener.connections_changed

    def drain_for_memory(reason: str) -> None:
        link.failed(reason)
        link.request_stop(Drain(config.server.drain_window_s))

    system = Path("/")
    peers = Peers(table, spec.slot, drain_interval_s=config.memory.drain_interval_s)
    heap = Heap(counters, clock, interval_s=config.memory.reclaim_interval_s, trim=find_malloc_trim())
    governor = Governor(
        config.memory,
        MemoryProbe.find(system, used=peers.used_bytes, limit_bytes=config.memory.limit_bytes),
        Relief(shared, hub, drain_for_memory),
        heap,
        peers,
        lambda: own_memory(system),
        counters,
        clock,
        random.random,
    )

    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(part)
            for part in (
                keys.run(),
                subscriber.run(hub),
                publishing.run(),
                reading.run(),
                presence.run(),
                hub.run(),
                control.run(),
                hooks.run(),
                shared.wheel.run(lambda: hub.delivering),
                canary.run(),
                pace.run(),
                *((user_limit.run(),) if config.limits.connections_per_user else ()),
                tend(shared, clock, counters, heap, redis_channels=lambda: subscriber.wanted, latency=latency),
                governor.run(),
            )
        ]
        if lifecycle is not None:
            background.append(group.create_task(lifecycle.run(lambda: members(sessions))))
        if tls is not None:
            background.append(group.create_task(tls.watch()))
        await readiness.wait_for_redis(config.redis.connect_timeout_s)
        await control.read_revocations()
        await hooks.start()
        await listener.open(spec.listening)
        link.listening = lambda: listener.sockets
        readiness.started()
        link.ready()
        await link.stop.wait()
        readiness.draining()
        await listener.aclose(handed_over=link.drain.handed_over)
        closed = await drain(
            shared.connections,
            SHUTDOWN,
            link.drain.window_s,
            random.random,
            handshakes=lambda: len(shared.handshakes) + (tls.under_way if tls is not None else 0),
            patience_s=config.limits.connect_timeout_s
            if link.drain.succeeded
            else min(config.limits.connect_timeout_s, STOPPING_PATIENCE_S),
        )
        await shared.all_closed(config.limits.close_timeout_s)
        await presence.flushed()
        await hooks.flushed()
        if lifecycle is not None:
            await lifecycle.finish()
        log.info("drained", clients=closed)
        if tls is not None:
            await tls.aclose()
        for task in background:
            task.cancel()
    await hooks.aclose()
    await redis.aclose()
    counters[names.PID] = 0


def make_lifecycle(
    config: Config, commands: CommandQueue, counters: memoryview[int], clock: Clock, *, node: str
) -> Lifecycle | None:
    """Events of clients for backends; None = nobody wants them."""
    settings = config.backend
    if not settings.events_stream:
        return None
    store = LifecycleStore(
        commands,
        prefix=config.redis.prefix,
        stream=settings.events_stream,
        kept=settings.events_kept,
        lease_s=settings.events_lease_s,
        node=node,
    )
    return Lifecycle(store, counters, clock, lease_s=settings.events_lease_s)


if __name__ == "__main__":
    run_worker(main)
