"""Redis goes away and comes back: connections stay, nothing pretends to work, everything resumes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until

CONFIG = {
    "server": {"workers": 2},
    "delivery": {"unsubscribe_delay_s": 0.2},
    "namespaces": {"default": {"publish_by": "subscriber"}},
}
TIMES = {"connect_timeout_s": 1.0, "probe_interval_s": 1.0, "canary_interval_s": 0.2}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    with serving(CONFIG | {"redis": {"url": server.url} | TIMES}) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
async def in_touch(gateway: Gateway, server: RedisServer) -> None:
    """Each test begins with Redis there and both workers subscribed."""
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both workers are in touch with Redis")


async def subscribed(open_client: OpenClient, channel: str, count: int = 6) -> list[Client]:
    """Enough clients that both workers are likely to have some; the tests hold for any spread."""
    clients = [await open_client(f"user-{number}") for number in range(count)]
    for client in clients:
        await client.subscribe(channel)
    return clients


async def wait_reached(gateway: Gateway, clients: list[Client], channel: str, data: object) -> None:
    """Publish once, when the channel is held again for all `clients`, and wait until each has it."""
    workers = {gateway.worker_of(client.id) for client in clients}

    def held() -> bool:
        try:
            ((_, listeners),) = gateway.redis.pubsub_numsub(f"gw:pub:{channel}")
        except redis.ConnectionError:
            return False
        return listeners == len(workers)

    await wait_until(held, "Redis has the channel's subscribers again")
    assert gateway.publish(channel, data) == len(workers)
    for client in clients:
        await client.wait(lambda client=client: data in client.data(channel), f"{data!r} arrives")
        assert client.data(channel).count(data) == 1


async def wait_degraded(gateway: Gateway) -> None:
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 0, "both workers miss Redis")

    def all_say_so() -> bool:
        answer = gateway.get(f"{gateway.control_url}/health/ready")
        return (answer.status_code, answer.json()["status"]) == (503, "degraded")

    await wait_until(all_say_so, "both workers miss their canaries")
    status, text = gateway.ready()
    assert status == 503
    assert text.startswith("degraded")
    assert gateway.get(f"{gateway.public_url}/health/live").status_code == 200


async def assert_still_usable(gateway: Gateway, open_client: OpenClient, clients: list[Client], channel: str) -> Client:
    """What clients can and cannot do while Redis is away. A client that came meanwhile."""
    assert all(client.open_still for client in clients)
    for client in clients:
        error = await client.error(publish={"channel": channel, "data": "lost"})
        assert error == {"code": 100, "message": "internal server error", "temporary": True}
    late = await open_client("late")
    await late.subscribe(channel)
    await late.subscribe(f"{channel}-new")
    return late


async def test_redis_is_killed_and_comes_back_on_the_same_socket(
    gateway: Gateway, server: RedisServer, open_client: OpenClient
) -> None:
    clients = await subscribed(open_client, "news")
    await wait_reached(gateway, clients, "news", "before")
    server.kill()
    await wait_degraded(gateway)
    late = await assert_still_usable(gateway, open_client, clients, "news")
    server.start()
    await wait_until(lambda: gateway.ready() == (200, "ready\n"), "ready again")
    await wait_reached(gateway, [*clients, late], "news", "after")
    await wait_reached(gateway, [late], "news-new", "also here")
    assert await late.call(publish={"channel": "news", "data": "from a client"}) == {}
    for client in (*clients, late):
        await client.wait(lambda client=client: "from a client" in client.data("news"), "the client's data arrives")
        assert client.open_still


async def test_redis_falls_silent_and_speaks_again(
    gateway: Gateway, server: RedisServer, open_client: OpenClient
) -> None:
    """As when a host is cut off: every connection is open, and nothing comes back. Only a probe finds out."""
    clients = await subscribed(open_client, "weather")
    server.freeze()
    try:
        await wait_until(lambda: gateway.metric("gateway_redis_connected") == 0, "the probes find out")
        await wait_until(lambda: gateway.ready()[0] == 503, "degraded")
        (client, *_) = clients
        assert (await client.error(publish={"channel": "weather", "data": 1}))["code"] == 100
        late = await open_client("late")
        await late.subscribe("weather")
    finally:
        server.thaw()
    await wait_until(lambda: gateway.ready() == (200, "ready\n"), "ready again")
    await wait_reached(gateway, [*clients, late], "weather", "after")


async def test_subscriber_connections_that_redis_kills_are_opened_again_with_all_channels(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = await subscribed(open_client, "sports")
    lost = gateway.metric("gateway_redis_connections_lost_total")
    assert gateway.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 2
    await wait_until(lambda: gateway.metric("gateway_redis_connections_lost_total") == lost + 2, "both were lost")
    await wait_reached(gateway, clients, "sports", "after")
    await wait_reached(gateway, clients[:1], "#user-0", "to one user")


async def test_every_connection_that_redis_kills_is_opened_again(gateway: Gateway, open_client: OpenClient) -> None:
    """Also the pooled ones that publish: the first command on a dead one must not fail for ever."""
    clients = await subscribed(open_client, "stocks")
    assert await clients[0].call(publish={"channel": "stocks", "data": "warm-up"}) == {}
    gateway.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    gateway.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def published() -> None:
        while "error" in (reply := await clients[0].command(publish={"channel": "stocks", "data": "again"})):
            assert reply["error"]["temporary"]

    await asyncio.wait_for(published(), 10)
    await wait_reached(gateway, clients, "stocks", "after")


async def test_the_api_answers_with_an_error_while_redis_is_away(gateway: Gateway, server: RedisServer) -> None:
    server.kill()
    try:
        answer = gateway.call_api("publish", channel="news", data=1)
        assert answer.status_code == 200
        assert answer.json()["error"]["code"] == 100
    finally:
        server.start()


async def test_the_log_says_once_that_redis_went_and_that_it_is_back(gateway: Gateway, server: RedisServer) -> None:
    before = len(gateway.logged("redis connected"))
    server.kill()
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 0, "both workers miss Redis")
    server.start()
    await wait_until(lambda: len(gateway.logged("redis connected")) == before + 2, "both are back")
    assert not gateway.unexpected()


def test_a_gateway_that_starts_while_redis_is_away_serves_when_it_comes() -> None:
    with redis_server() as server:
        server.kill()
        with serving({"redis": {"url": server.url} | TIMES}) as gateway:
            assert gateway.logged("starting without redis")
            assert gateway.ready()[0] == 503
            asyncio.run(_serves_when_redis_comes(gateway, server))


async def _serves_when_redis_comes(gateway: Gateway, server: RedisServer) -> None:
    client = await Client.open(gateway.url)
    try:
        await client.connect(gateway.token("early"))
        await client.subscribe("news")
        server.start()
        await wait_reached(gateway, [client], "news", "finally")
    finally:
        await client.aclose()
