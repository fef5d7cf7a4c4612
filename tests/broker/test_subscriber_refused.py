"""What a subscriber does when Redis says no, or is no Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.errors import BrokerRefused
from tests.support.redis_server import RedisServer
from tests.support.subscriber import SubscriberWorld
from tests.support.waiting import wait_until

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def restricted(world: SubscriberWorld, redis: Redis) -> SubscriberWorld:
    """A subscriber whose user may subscribe to `ok:*` only."""
    await redis.execute_command("ACL", "SETUSER", "default", "resetchannels", "&ok:*")
    return world


async def test_a_channel_that_redis_refuses_is_reported_and_not_wanted_any_more(restricted: SubscriberWorld) -> None:
    restricted.start()
    await restricted.happened("connected")
    restricted.subscriber.subscribe(b"secret")
    await wait_until(lambda: b"secret" in restricted.confirmed, "Redis has answered")
    assert isinstance(restricted.confirmed[b"secret"], BrokerRefused)
    assert restricted.subscriber.wanted == 0


async def test_a_refused_channel_does_not_take_others_with_it_that_were_asked_for_in_the_same_moment(
    restricted: SubscriberWorld, redis: Redis
) -> None:
    """They share a command; Redis refuses the whole of it."""
    restricted.start()
    await restricted.happened("connected")
    for channel in (b"ok:1", b"secret", b"ok:2", b"gone"):
        restricted.subscriber.subscribe(channel)
    restricted.subscriber.subscribe(b"ok:3")
    wanted = {b"ok:1", b"ok:2", b"ok:3"}
    await wait_until(lambda: restricted.confirmed.keys() >= wanted | {b"secret", b"gone"}, "Redis has answered")
    assert {channel for channel, error in restricted.confirmed.items() if error is None} == wanted
    assert set(await redis.execute_command("PUBSUB", "CHANNELS")) == wanted
    assert restricted.events == ["connected"]
    await restricted.subscribed(b"ok:4")


async def test_a_refused_channel_does_not_keep_the_others_away_when_all_are_subscribed_again(
    restricted: SubscriberWorld, redis: Redis
) -> None:
    wanted = {b"ok:%d" % number for number in range(20)}
    for channel in (*sorted(wanted)[:10], b"secret", *sorted(wanted)[10:]):
        restricted.subscriber.subscribe(channel)
    restricted.start()
    await restricted.happened("connected")
    assert isinstance(restricted.confirmed[b"secret"], BrokerRefused)
    assert set(await redis.execute_command("PUBSUB", "CHANNELS")) == wanted
    assert restricted.subscriber.wanted == 20


async def test_a_wrong_password_is_refused_logged_without_it_and_tried_again(
    redis_server_url: str, redis: Redis
) -> None:
    await redis.config_set("requirepass", "right")
    with capture_logs() as lines:
        world = SubscriberWorld(redis_server_url.replace("unix://", "unix://:wrong-password@"))
        world.start()
        try:
            await wait_until(lambda: len(lines) >= 3, "it is tried again")
            assert world.events == []
            assert not world.subscriber.connected
            await redis.execute_command("AUTH", "right")
            await redis.execute_command("CONFIG", "SET", "requirepass", "wrong-password")
            await world.happened("connected")
        finally:
            await world.stop()
    assert "WRONGPASS" in lines[0]["reason"] or "invalid" in lines[0]["reason"]
    assert "wrong-password" not in repr(lines)


async def test_a_missing_password_is_refused(redis_server_url: str, redis: Redis) -> None:
    await redis.config_set("requirepass", "right")
    with capture_logs() as lines:
        world = SubscriberWorld(redis_server_url)
        world.start()
        await wait_until(lambda: lines, "it is said")
        await world.stop()
    assert "NOAUTH" in lines[0]["reason"]


@pytest.fixture
def redis_server_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
async def impostor() -> AsyncIterator[Callable[[Handler], Awaitable[SubscriberWorld]]]:
    """A subscriber of a server that is no Redis."""
    servers: list[asyncio.Server] = []
    worlds: list[SubscriberWorld] = []

    async def serve(handler: Handler) -> SubscriberWorld:
        servers.append(await asyncio.start_server(handler, "127.0.0.1", 0))
        port = servers[-1].sockets[0].getsockname()[1]
        worlds.append(SubscriberWorld(f"redis://127.0.0.1:{port}"))
        worlds[-1].start()
        return worlds[-1]

    yield serve
    for world in worlds:
        await world.stop()
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*1\r\n$5\r\nhello\r\n" * 3,
        b"+OK\r\n+PONG\r\n+PONG\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
    ids=repr,
)
async def test_a_server_that_is_no_redis_is_left_and_tried_again(
    impostor: Callable[[Handler], Awaitable[SubscriberWorld]], greeting: bytes
) -> None:
    left: list[bool] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        try:
            while await reader.read(1000):
                pass
        except ConnectionError:
            pass
        left.append(True)
        writer.transport.abort()

    world = await impostor(handler)
    await wait_until(lambda: len(left) >= 2, "the connection is closed, and another one opened and closed")
    assert not world.messages


async def test_a_server_that_hangs_up_is_tried_again(
    impostor: Callable[[Handler], Awaitable[SubscriberWorld]],
) -> None:
    calls: list[bool] = []

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(True)
        writer.transport.abort()

    world = await impostor(handler)
    await wait_until(lambda: len(calls) >= 3, "it is tried again")
    assert world.events == []
