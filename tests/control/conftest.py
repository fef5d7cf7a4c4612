"""A control app with fake surroundings: a Redis that records, a clock that stands, counters that tests write."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.broker import ChannelLog, CommandQueue, PresenceStore, RevocationStore
from gateway.clock import FakeClock
from gateway.config import Config
from gateway.control import Asking, Bus, ControlParts, Dashboard, Fleet, NodeRegistry, build_app
from gateway.errors import BrokerBusy, BrokerError
from gateway.metrics import CounterTable, LatencyRecorder
from gateway.metrics.names import BEAT_MS, LISTENING, PID, READY, REDIS_CONNECTED, STARTED_S

KEY = "test-key-0123456789"
OTHER_KEY = "other-key-0123456789"
AUTHORITY = "127.0.0.1:9000"


class FakeRedis:
    """Records what is published, in the place of a command queue, or fails with `error`. Knows no other command."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        """Channel without its prefix, payload."""
        self.error: BrokerError | None = None
        self.listeners = 2
        """What PUBLISH answers."""

    def submit(self, *arguments: Any, size: int = 0) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if isinstance(self.error, BrokerBusy):
            raise self.error
        if self.error is not None:
            done.set_exception(self.error)
            done.exception()
            return done
        command, channel, payload = arguments
        assert command == "PUBLISH"
        assert size == len(payload)
        self.published.append((channel.decode().removeprefix("gw:pub:").removeprefix("gw:"), payload))
        done.set_result(self.listeners)
        return done


class Control:
    """The parts of one control app. `client()` talks to it."""

    def __init__(self, queue: CommandQueue | None = None, **sections: object) -> None:
        """`queue` to a real Redis; None = a fake one that takes publications only."""
        defaults: dict[str, object] = {
            "server": {"workers": 2},
            "control": {"api_keys": [KEY, OTHER_KEY]},
            "namespaces": {"chat": {}},
        }
        self.config = Config.model_validate(defaults | sections)
        self.clock = FakeClock()
        self.redis = FakeRedis()
        self.table = CounterTable.create(self.config.server.workers)
        self.signed: list[tuple[str, float]] = []
        self.latency = self.recorder(self.table.rows)
        self.queue: Any = queue or self.redis
        fleet = Fleet(self.table, self.config.server.workers, self.clock)
        self.nodes = NodeRegistry(self.queue, self.table, fleet, self.clock, prefix="gw", node="node")
        self.bus = Bus(
            commands=self.queue,
            log=ChannelLog(self.queue, self.queue, prefix="gw"),
            presence=PresenceStore(self.queue, prefix="gw", lease_s=30),
            revocations=RevocationStore(self.queue, prefix="gw"),
            prefix="gw",
        )
        self._fleet = fleet
        self.asking: Asking | None = None
        """Of the demo. Takes effect with the next `make_app`."""
        self.tickets: list[tuple[str, float, tuple[str, ...]]] = []
        signs = None if self.config.auth.insecure else self._sign_ticket
        self.dashboard = Dashboard(
            self.table, fleet, self.bus, self.clock, publication_bytes=self.config.limits.publication_bytes, sign=signs
        )
        self.app = self.make_app()

    def make_app(self, **others: Any) -> FastAPI:
        """`others`: in the place of parts of the bus."""
        return build_app(self.parts(**others))

    def parts(self, **others: Any) -> ControlParts:
        return ControlParts(
            config=self.config,
            table=self.table,
            clock=self.clock,
            bus=self.bus._replace(**others),
            fleet=self._fleet,
            nodes=self.nodes,
            sign=self._sign,
            asking=self.asking,
            latency=self.latency,
            dashboard=self.dashboard,
        )

    def _sign(self, user: str, ttl_s: float) -> str:
        self.signed.append((user, ttl_s))
        return f"token-of-{user}"

    def _sign_ticket(self, user: str, ttl_s: float, channels: tuple[str, ...]) -> str:
        self.tickets.append((user, ttl_s, channels))
        return f"ticket-of-{user}"

    def client(self, authority: str = AUTHORITY, *, key: str | None = KEY) -> httpx.AsyncClient:
        headers = {} if key is None else {"X-API-Key": key}
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url=f"http://{authority}", headers=headers)

    def recorder(self, slot: int) -> LatencyRecorder:
        """The writer of latencies of a worker; after the workers comes the control process."""
        return LatencyRecorder(self.table.latency_row(slot), self.clock.monotonic(), self.clock.time(), slow_s=0.2)

    def start_worker(self, slot: int) -> memoryview[int]:
        """Counters of a worker that is well."""
        row = self.table.row(slot)
        row[PID] = 1000 + slot
        row[STARTED_S] = 1_700_000_000
        row[READY] = row[LISTENING] = row[REDIS_CONNECTED] = 1
        row[BEAT_MS] = int(self.clock.monotonic() * 1000)
        return row


@pytest.fixture
async def make_control() -> AsyncIterator[Callable[..., Control]]:
    made: list[Control] = []

    def make(queue: CommandQueue | None = None, **sections: object) -> Control:
        made.append(Control(queue, **sections))
        return made[-1]

    yield make
    for control in made:
        os.close(control.table.fd)


@pytest.fixture
def control(make_control: Callable[..., Control]) -> Control:
    return make_control()


@pytest.fixture
async def client(control: Control) -> AsyncIterator[httpx.AsyncClient]:
    async with control.client() as client:
        yield client
