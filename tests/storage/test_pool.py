"""The pool of connections: bounded, callers wait for a free one, a broken one is opened again, and all is counted."""

from __future__ import annotations

import asyncio

from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.config import Redis
from gateway.storage.pool import open_pool
from tests.support.redis_server import RedisServer


async def test_more_callers_than_connections_wait_for_one(redis_server: RedisServer) -> None:
    client, pool = open_pool(Redis(url=redis_server.url), 3)
    answers = await asyncio.gather(*(client.set("a", 1) for _ in range(20)))
    assert answers == [True] * 20
    found = pool.statistics()
    assert (found.size, found.opened, found.in_use, found.idle, found.waiting) == (3, 3, 0, 3, 0)
    assert found.waits == 17
    await client.aclose()


async def test_connections_in_use_and_callers_that_wait_are_counted(redis_server: RedisServer) -> None:
    client, pool = open_pool(Redis(url=redis_server.url), 2)
    await client.ping()
    redis_server.freeze()
    asking = [asyncio.ensure_future(client.get("a")) for _ in range(5)]
    while pool.statistics().waiting < 3:
        await asyncio.sleep(0.01)
    assert (pool.statistics().in_use, pool.statistics().waiting) == (2, 3)
    redis_server.thaw()
    assert await asyncio.gather(*asking) == [None] * 5
    await client.aclose()


async def test_a_connection_that_broke_is_opened_again_and_the_caller_does_not_notice(
    redis_server: RedisServer,
) -> None:
    client, pool = open_pool(Redis(url=redis_server.url), 2)
    await client.set("a", 1)
    redis_server.kill()
    redis_server.start()
    assert await client.get("a") is None
    assert (pool.statistics().opened, pool.statistics().reconnects) == (1, 1)
    await client.aclose()


def test_tcp_connections_have_keepalive() -> None:
    _, pool = open_pool(Redis(url="redis://127.0.0.1:1"), 50)
    assert pool.make_connection().socket_keepalive  # type: ignore[attr-defined]
    assert pool.statistics().size == 50


async def test_a_closed_pool_opens_no_connection_any_more(redis_server: RedisServer) -> None:
    client, pool = open_pool(Redis(url=redis_server.url), 2)
    await client.ping()
    redis_server.freeze()
    asking = [asyncio.ensure_future(client.get("a")) for _ in range(5)]
    while pool.statistics().waiting < 3:
        await asyncio.sleep(0.01)
    await client.aclose()
    redis_server.thaw()
    outcomes = await asyncio.gather(*asking, client.get("a"), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {RedisConnectionError}
    known = (*pool._available_connections, *pool._in_use_connections)
    assert [connection.is_connected for connection in known] == [False, False]
