"""The rules for publications in Redis: replaced as a whole, with a version that grows with every change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from redis.asyncio import Redis

from gateway.broker import rules as module
from gateway.broker.connection import Connection
from gateway.broker.rules import RulesStore, keep_rules
from gateway.config import Redis as RedisSettings
from protocol.errors import EnvelopeError
from protocol.publish_rules import HistoryRule, PublishRules
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

RULES = PublishRules(namespaces={"default": None, "chat": HistoryRule(1, 0.5)}, publication_bytes=10, channel_length=9)
OTHER = PublishRules(namespaces={"default": HistoryRule(1, 1.0)}, publication_bytes=10, channel_length=9)


@pytest.fixture
async def rules(redis_server: RedisServer) -> AsyncIterator[RulesStore]:
    connection = Connection(RedisSettings(url=redis_server.url))
    commands = connection.queue()
    sending = asyncio.create_task(commands.run())
    yield RulesStore(commands, prefix="gw")
    sending.cancel()
    await asyncio.wait((sending,))
    await connection.aclose()


async def test_what_is_stored_is_read(rules: RulesStore) -> None:
    assert await rules.read() is None
    assert not await rules.exists()
    assert await rules.replace(RULES) == 1
    assert await rules.read() == (1, RULES)
    assert await rules.exists()


async def test_the_version_grows_with_changes_only(rules: RulesStore) -> None:
    versions = [await rules.replace(each) for each in (RULES, RULES, OTHER, OTHER, RULES)]
    assert versions == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("fields", [{"rules": b"[]"}, {"rules": b"{}", "version": 1}, {"rules": b"\xff", "version": 1}])
async def test_what_no_gateway_wrote_is_an_error(rules: RulesStore, redis: Redis, fields: dict[str, bytes]) -> None:
    await redis.hset("gw:rules", mapping=fields)  # type: ignore[arg-type,misc]
    with pytest.raises(EnvelopeError):
        await rules.read()


async def test_lost_rules_come_back_and_those_of_another_node_stay(
    rules: RulesStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    keeping = asyncio.create_task(keep_rules(rules, RULES))

    async def stored() -> bool:
        return await rules.read() is not None

    await eventually(stored, "the rules are stored")
    await redis.flushall()
    await eventually(stored, "the rules are back")
    await rules.replace(OTHER)
    looks = (await redis.info("commandstats"))["cmdstat_exists"]["calls"]

    async def looked() -> bool:
        return bool((await redis.info("commandstats"))["cmdstat_exists"]["calls"] > looks + 2)

    await eventually(looked, "it has looked again")
    found = await rules.read()
    assert found is not None
    assert found.rules == OTHER
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
