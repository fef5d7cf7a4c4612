"""Revocations in a real Redis: told at once, remembered until they are over, never without bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.broker import CommandQueue, RevocationStore
from gateway.broker import revocations as module
from gateway.config import Redis as RedisSettings
from gateway.errors import BrokerRefused
from gateway.storage.redis import connect
from protocol.control_messages import DisconnectClients, Revoked, decode_control, encode_control
from tests.support.redis_server import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RevocationStore]:
    client = connect(RedisSettings(url=redis_server.url))
    commands = CommandQueue(client)
    running = asyncio.create_task(commands.run())
    yield RevocationStore(commands, prefix="gw")
    running.cancel()
    await client.aclose()


def of_user(user: str, *, before: float = 1000.0, lasts_s: float = 3600.0) -> Revoked:
    return Revoked(user=user, issued_before=before, expire_at=time.time() + lasts_s)


async def everything(store: RevocationStore) -> list[Revoked]:
    return [revoked async for chunk in store.read() for revoked in chunk]


async def test_a_revocation_is_told_and_remembered(store: RevocationStore, redis: Redis) -> None:
    async with redis.pubsub() as listener:
        await listener.subscribe("gw:control")
        await listener.get_message(timeout=10)
        revoked = Revoked(token_id="t", expire_at=time.time() + 60)
        await store.revoke(revoked)
        message = await listener.get_message(timeout=10)
    assert message is not None
    assert decode_control(message["data"]) == revoked
    assert await everything(store) == [revoked]


async def test_it_is_forgotten_when_it_is_over(store: RevocationStore, redis: Redis) -> None:
    await store.revoke(of_user("ada", lasts_s=-5))
    await store.revoke(of_user("bob"))
    assert [revoked.user for revoked in await everything(store)] == ["bob"]
    assert 0 < await redis.ttl("gw:revoked") <= 3602
    assert 0 < await redis.ttl("gw:revoked-until") <= 3602


async def test_a_later_one_does_not_undo_an_earlier_one_of_the_same_user(store: RevocationStore) -> None:
    await store.revoke(of_user("ada", before=2000))
    await store.revoke(of_user("ada", before=1000))
    assert {revoked.issued_before for revoked in await everything(store)} == {1000, 2000}


async def test_they_are_bounded(store: RevocationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REVOKED", 2)
    await store.revoke(of_user("ada"))
    await store.revoke(of_user("bob"))
    with pytest.raises(BrokerRefused, match="2 revocations"):
        await store.revoke(of_user("eve"))
    await store.revoke(of_user("ada", lasts_s=7200))
    assert {revoked.user for revoked in await everything(store)} == {"ada", "bob"}


async def test_many_are_read_in_chunks_and_what_is_no_revocation_is_left_out(
    store: RevocationStore, redis: Redis
) -> None:
    await asyncio.gather(*(store.revoke(of_user(f"u{number}")) for number in range(2500)))
    await redis.hset("gw:revoked", mapping={"a": b"nonsense", "b": encode_control(DisconnectClients(user="x"))})
    chunks = [len(chunk) async for chunk in store.read()]
    assert sum(chunks) == 2500
    assert max(chunks) < 2000
