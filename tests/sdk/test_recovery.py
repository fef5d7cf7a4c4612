"""The official SDKs, unchanged, on channels with history: what was published while they were away, once, in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import centrifuge
import pytest

from tests.sdk.conftest import JavaScript
from tests.support.gateway import Gateway, serving
from tests.support.proxy import Cable, cable
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import DEADLINE_S, wait_until

HISTORY = {"history_size": 1000, "history_ttl_s": 300, "recover": True}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    config: dict[str, Any] = {
        "redis": {"url": server.url},
        "delivery": {"unsubscribe_delay_s": 0.2},
        "namespaces": {"default": {}, "kept": HISTORY, "given": HISTORY | {"server_side": ["given:all"]}},
    }
    with serving(config) as gateway:
        gateway.allowed_errors = {"worker ended"}
        yield gateway


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[Cable]:
    with cable(gateway.public_port) as made:
        yield made


def address(wire: Cable) -> str:
    return f"ws://127.0.0.1:{wire.port}/connection/websocket"


def data(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in events]


# JavaScript.


def test_javascript_recovers_after_a_cut(js: JavaScript, gateway: Gateway, wire: Cable) -> None:
    js.create("ada", address(wire), token=gateway.token("ada"))
    js.do("subscribe", "ada", channel="kept:js")
    js.do("connect", "ada")
    js.wait("ada", "subscribed", channel="kept:js")
    gateway.publish_logged("kept:js", 1)
    js.wait("ada", "publication", channel="kept:js")
    for round_number in range(1, 4):
        wire.cut()
        js.wait("ada", "connecting", round_number + 1)
        for number in range(50):
            gateway.publish_logged("kept:js", round_number * 100 + number)
        wire.mend()
        js.wait("ada", "subscribed", round_number + 1, channel="kept:js")
        gateway.publish_logged("kept:js", "live")
        js.wait("ada", "publication", 1 + 51 * round_number, channel="kept:js")
    expected: list[Any] = [1]
    for round_number in range(1, 4):
        expected += [*range(round_number * 100, round_number * 100 + 50), "live"]
    assert data(js.events("ada", "publication", channel="kept:js")) == expected
    assert [event["recovered"] for event in js.events("ada", "subscribed", channel="kept:js")[1:]] == [True] * 3


def test_javascript_recovers_what_the_server_subscribed_it_to_after_its_worker_was_killed(
    js: JavaScript, gateway: Gateway
) -> None:
    js.create("ada", gateway.url, token=gateway.token("ada"))
    js.do("connect", "ada")
    js.wait("ada", "subscribed", channel="given:all")
    gateway.publish_logged("given:all", "before")
    js.wait("ada", "publication", channel="given:all")
    os.kill(gateway.pid("edge-1"), signal.SIGKILL)
    gateway.publish_logged("given:all", "missed")
    js.wait("ada", "publication", 2, channel="given:all")
    gateway.publish_logged("given:all", "live")
    assert data(js.wait("ada", "publication", 3, channel="given:all")) == ["before", "missed", "live"]
    assert js.events("ada", "subscribed", channel="given:all")[1]["recovered"] is True


def test_javascript_learns_that_it_cannot_recover(js: JavaScript, gateway: Gateway, wire: Cable) -> None:
    js.create("ada", address(wire), token=gateway.token("ada"))
    js.do("subscribe", "ada", channel="kept:lost")
    js.do("connect", "ada")
    js.wait("ada", "subscribed", channel="kept:lost")
    gateway.publish_logged("kept:lost", "before")
    js.wait("ada", "publication", channel="kept:lost")
    wire.cut()
    js.wait("ada", "connecting", 2)
    gateway.redis.delete("gw:log:kept:lost", "gw:meta:kept:lost")
    gateway.publish_logged("kept:lost", "another life")
    wire.mend()
    (_, again) = js.wait("ada", "subscribed", 2, channel="kept:lost")
    assert (again["wasRecovering"], again["recovered"]) == (True, False)
    gateway.publish_logged("kept:lost", "live")
    assert data(js.wait("ada", "publication", 2, channel="kept:lost")) == ["before", "live"]


# Python.


class Subscribed(centrifuge.SubscriptionEventHandler):
    """Keeps what one subscription tells."""

    def __init__(self) -> None:
        self.publications: list[Any] = []
        self.subscribed: list[Any] = []

    async def on_subscribed(self, ctx: Any) -> None:
        self.subscribed.append(ctx)

    async def on_publication(self, ctx: Any) -> None:
        self.publications.append(ctx.pub.data)

    async def wait(self, publications: int) -> list[Any]:
        await wait_until(lambda: len(self.publications) >= publications, f"{publications} publications")
        return self.publications


@pytest.fixture
async def python(gateway: Gateway, wire: Cable) -> AsyncIterator[tuple[centrifuge.Client, Subscribed]]:
    """A client of the Python SDK behind the cable, in the channel `kept:py`."""
    client = centrifuge.Client(
        address(wire), token=gateway.token("ada"), proxy=None, min_reconnect_delay=0.05, max_reconnect_delay=0.5
    )
    events = Subscribed()
    subscription = client.new_subscription("kept:py", events=events)
    await client.connect()
    await subscription.subscribe()
    await subscription.ready(DEADLINE_S)
    yield client, events
    await client.disconnect()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=DEADLINE_S)


async def test_python_recovers_after_a_cut(
    gateway: Gateway, wire: Cable, python: tuple[centrifuge.Client, Subscribed]
) -> None:
    client, events = python
    expected: list[Any] = ["first"]
    gateway.publish_logged("kept:py", "first")
    await events.wait(1)
    for round_number in range(1, 4):
        wire.cut()
        await wait_until(lambda: client.state is not centrifuge.ClientState.CONNECTED, "it has noticed")
        for number in range(50):
            gateway.publish_logged("kept:py", round_number * 100 + number)
        wire.mend()
        expected += range(round_number * 100, round_number * 100 + 50)
        await events.wait(len(expected))
        gateway.publish_logged("kept:py", "live")
        expected.append("live")
        assert await events.wait(len(expected)) == expected
    assert [ctx.recovered for ctx in events.subscribed[1:]] == [True] * 3


async def test_python_recovers_after_its_worker_was_killed(
    gateway: Gateway, python: tuple[centrifuge.Client, Subscribed]
) -> None:
    _, events = python
    os.kill(gateway.pid("edge-1"), signal.SIGKILL)
    for number in range(20):
        gateway.publish_logged("kept:py", number)
    assert await events.wait(20) == list(range(20))
