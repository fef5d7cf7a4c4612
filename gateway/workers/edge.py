"""The edge worker: builds the parts of one WebSocket process and wires them together. No logic of its own.

Started by the supervisor as `python -m gateway.workers.edge --link-fd N`.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from typing import Final

from gateway.auth import KeySet, Revocations, TokenVerifier
from gateway.broker import ChannelLog, CommandQueue, PresenceStore, RevocationStore, Subscriber, UserPlaces
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.edge import (
    AddressCounts,
    Admission,
    Deadlines,
    HandshakePace,
    KeepaliveWheel,
    Listener,
    Opening,
    Readiness,
    Shared,
    drain,
    tend,
)
from gateway.hub import CatchUp, ChangeFanout, Fanout, Hub, Presence, UserIndex
from gateway.log import get_logger
from gateway.metrics import CounterTable, names
from gateway.processes import WorkerEnd
from gateway.session import (
    Control,
    Failures,
    RateLimit,
    Rates,
    Session,
    SessionContext,
    UserLimit,
    channels_of_everyone,
)
from gateway.storage.redis import connect, endpoint
from gateway.workers.link import run_worker
from protocol.codes import SHUTDOWN
from protocol.redis_contract import control_channel

LARGE_ANSWERS: Final = 16
"""Commands in one round trip where each may answer with a page of a log."""


async def main(link: WorkerEnd, config: Config) -> None:
    spec = link.spec
    clock = SystemClock()
    log = get_logger()
    table = CounterTable(spec.counters_fd, spec.counters_rows)
    counters = table.row(spec.slot)
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
    client = connect(config.redis)
    publishing = CommandQueue(client)
    reading = CommandQueue(client, batch=LARGE_ANSWERS)
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
    catch_up = CatchUp(counters)
    fanout = Fanout(
        counters,
        catch_up.stalled,
        slice_deliveries=config.delivery.slice_deliveries,
        queue_messages=config.delivery.queue_messages,
        queue_bytes=config.delivery.queue_bytes,
    )
    subscriber = Subscriber(
        endpoint(config.redis),
        connect_timeout_s=config.redis.connect_timeout_s,
        probe_interval_s=config.redis.probe_interval_s,
        random=random.random,
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
        redis_state_changed=readiness.redis_changed,
    )
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
        handshakes=Deadlines(clock, config.limits.connect_timeout_s),
        connects=Deadlines(clock, config.limits.connect_timeout_s),
        closings=Deadlines(clock, config.limits.close_timeout_s),
        ready=readiness.answer,
    )
    listener = Listener(
        config.server.host,
        config.server.port,
        lambda: Opening(shared),
        counters,
        max_connections=config.limits.max_connections,
    )
    shared.on_change = listener.connections_changed

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
                shared.wheel.run(),
                pace.run(),
                *((user_limit.run(),) if config.limits.connections_per_user else ()),
                tend(shared, clock, counters, redis_channels=lambda: subscriber.wanted),
            )
        ]
        await readiness.wait_for_redis(config.redis.connect_timeout_s)
        await control.read_revocations()
        await listener.open()
        readiness.started()
        link.ready()
        await link.stop.wait()
        readiness.draining()
        await listener.aclose()
        closed = await drain(shared.connections, SHUTDOWN, link.stop_window_s, random.random)
        await shared.all_closed(config.limits.close_timeout_s)
        await presence.flushed()
        log.info("drained", clients=closed)
        for task in background:
            task.cancel()
    await client.aclose()
    counters[names.PID] = 0


if __name__ == "__main__":
    sys.exit(run_worker(main))
