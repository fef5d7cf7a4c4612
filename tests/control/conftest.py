"""A control app: with a Redis that records, a clock that stands and counters that tests write; or with a real Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from gateway.broker import CommandQueue
from gateway.broker.commands import Argument
from gateway.clock import FakeClock
from gateway.config import Config
from gateway.config import Redis as RedisSettings
from gateway.control import Backends, ControlParts, NodeRegistry, build_app
from gateway.errors import BrokerBusy, BrokerError
from gateway.metrics import CounterTable
from gateway.metrics.names import BEAT_MS, LISTENING, PID, READY, REDIS_CONNECTED, STARTED_S
from gateway.storage.redis import connect
from tests.support.redis_server import RedisServer

KEY = "test-key-0123456789"
OTHER_KEY = "other-key-0123456789"
AUTHORITY = "127.0.0.1:9000"


async def eventually(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait for a condition that has to be asked for."""
    for _ in range(2000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within 20 s: {what}")


class FakeRedis(CommandQueue):
    """Records what is published, or fails with `error`. Knows no other command."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        """Channel without the prefix of publications, payload."""
        self.error: BrokerError | None = None
        self.listeners = 2
        """What PUBLISH answers."""

    def submit(self, *arguments: Argument, size: int = 0) -> asyncio.Future[Any]:
        command, channel, payload = arguments
        assert command == "PUBLISH"
        assert isinstance(channel, bytes)
        assert isinstance(payload, bytes)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if isinstance(self.error, BrokerBusy):
            raise self.error
        if self.error is not None:
            done.set_exception(self.error)
        else:
            self.published.append((channel.decode().removeprefix("gw:pub:"), payload))
            done.set_result(self.listeners)
        return done


class Control:
    """The parts of one control app. `client()` talks to it."""

    def __init__(self, queue: CommandQueue | None = None, **sections: object) -> None:
        defaults: dict[str, object] = {
            "server": {"workers": 2},
            "control": {"api_keys": [KEY, OTHER_KEY]},
            "namespaces": {"chat": {}},
        }
        self.config = Config.model_validate(defaults | sections)
        self.clock = FakeClock()
        self.redis = FakeRedis()
        self.queue = queue or self.redis
        self.table = CounterTable.create(self.config.server.workers)
        self.signed: list[tuple[str, float]] = []
        self.backends = self.make_backends()
        self.app = self.make_app()

    def make_backends(self, node: str = "n1", host: str = "web1") -> Backends:
        nodes = NodeRegistry(self.table, self.queue, self.clock, prefix="gw", node=node, host=host)
        return Backends.on(self.queue, self.queue, nodes, self.config)

    def make_app(self, **other: Any) -> FastAPI:
        """`other`: in the place of some of the backends."""
        backends = self.backends._replace(**other)
        return build_app(ControlParts(self.config, self.table, self.clock, backends, self._sign))

    async def call(self, method: str, request: object, *, key: str | None = KEY) -> Any:
        """The answer of one call, from JSON."""
        async with self.client(key=key) as client:
            answer = await client.post(f"/api/{method}", content=msgspec.json.encode(request))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def result(self, method: str, **request: object) -> Any:
        """The result of a call that must work."""
        return (await self.call(method, request))["result"]

    async def error(self, method: str, **request: object) -> tuple[int, str]:
        """Code and message of a call that must not work."""
        error = (await self.call(method, request))["error"]
        return error["code"], error["message"]

    def _sign(self, user: str, ttl_s: float) -> str:
        self.signed.append((user, ttl_s))
        return f"token-of-{user}"

    def client(self, authority: str = AUTHORITY, *, key: str | None = KEY) -> httpx.AsyncClient:
        headers = {} if key is None else {"X-API-Key": key}
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url=f"http://{authority}", headers=headers)

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

    def make(**sections: object) -> Control:
        made.append(Control(**sections))
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


NAMESPACES = {
    "default": {},
    "chat": {"history_size": 100_000, "history_ttl_s": 600, "presence": True},
    "plain": {},
}


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own."""
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def live(redis_server: RedisServer) -> AsyncIterator[Control]:
    """A control app on a real Redis. Channels of `chat` have history and presence."""
    client = connect(RedisSettings(url=redis_server.url))
    queue = CommandQueue(client)
    running = asyncio.get_running_loop().create_task(queue.run())
    control = Control(queue, namespaces=NAMESPACES)
    yield control
    running.cancel()
    await asyncio.wait([running])
    await client.aclose()
    os.close(control.table.fd)
