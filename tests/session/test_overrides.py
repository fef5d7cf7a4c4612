"""Tokens that change the rules of a namespace for one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.hub import turn
from tests.support.session import Client, SessionWorld

RULES: dict[str, Any] = {
    "quiet": {},
    "seen": {"presence": True, "join_leave": True},
    "kept": {"history_size": 10, "history_ttl_s": 60},
    "whole": {"history_size": 10, "history_ttl_s": 60, "recover": True},
}


@pytest.fixture
async def world() -> AsyncIterator[SessionWorld]:
    world = SessionWorld(namespaces=RULES)
    running = asyncio.create_task(world.presence.run())
    yield world
    running.cancel()


async def subscribed(world: SessionWorld, channel: str, **override: bool) -> tuple[Client, dict[str, Any]]:
    """A client in `channel` by a token with that override, and the result of its subscribe."""
    client = await world.connected("ada")
    changes = {name: {"value": value} for name, value in override.items()}
    token = world.token("ada", channel=channel, override=changes)
    answer = await client.ask(subscribe={"channel": channel, "token": token})
    await turn(10)
    return client, answer["subscribe"]


async def test_presence_can_be_switched_on_for_one(world: SessionWorld) -> None:
    client, _ = await subscribed(world, "quiet:room", presence=True)
    assert world.present.clients("quiet:room") == [client.session.client]
    assert world.present.told == []
    await client.ask(unsubscribe={"channel": "quiet:room"})
    await turn(10)
    assert world.present.clients("quiet:room") == []


async def test_presence_can_be_switched_off_for_one(world: SessionWorld) -> None:
    await subscribed(world, "seen:room", presence=False, join_leave=False)
    assert world.present.clients("seen:room") == []
    assert world.present.told == []
    client, _ = await subscribed(world, "seen:room")
    assert world.present.clients("seen:room") == [client.session.client]


async def test_one_can_join_and_leave_without_a_word_and_still_be_seen(world: SessionWorld) -> None:
    silent, _ = await subscribed(world, "seen:room", join_leave=False)
    loud, _ = await subscribed(world, "seen:room")
    assert sorted(world.present.clients("seen:room")) == sorted([silent.session.client, loud.session.client])
    silent.session.closed("gone")
    loud.session.closed("gone")
    await turn(10)
    assert world.present.told == [
        ("seen:room", "join", loud.session.client),
        ("seen:room", "leave", loud.session.client),
    ]
    assert world.present.clients("seen:room") == []


async def test_one_can_be_announced_where_others_are_not(world: SessionWorld) -> None:
    client, _ = await subscribed(world, "quiet:room", join_leave=True)
    assert world.present.told == [("quiet:room", "join", client.session.client)]


async def test_who_asks_for_the_presence_sees_the_silent_ones_of_this_worker(world: SessionWorld) -> None:
    world.present.holding = True
    silent, _ = await subscribed(world, "seen:room", join_leave=False)
    loud, _ = await subscribed(world, "seen:room")
    waits = world.presence.told("seen:room")
    assert waits is not None
    world.present.release()
    await waits
    assert sorted(world.present.clients("seen:room")) == sorted([silent.session.client, loud.session.client])


async def test_recovery_can_be_switched_on_for_one(world: SessionWorld) -> None:
    world.hub.log.put("kept:room", b"1")
    _, result = await subscribed(world, "kept:room", force_recovery=True)
    assert (result["recoverable"], result["offset"]) == (True, 1)
    _, result = await subscribed(world, "kept:room")
    assert "recoverable" not in result


async def test_recovery_can_be_switched_off_for_one(world: SessionWorld) -> None:
    _, result = await subscribed(world, "whole:room", force_recovery=False)
    assert "recoverable" not in result
    assert "epoch" not in result


async def test_positions_can_be_switched_on_for_one(world: SessionWorld) -> None:
    _, result = await subscribed(world, "kept:room", force_positioning=True)
    assert result["positioned"] is True
    assert result["epoch"] == world.hub.log.epoch("kept:room")
    assert "recoverable" not in result


async def test_without_history_there_is_nothing_to_switch_on(world: SessionWorld) -> None:
    _, result = await subscribed(world, "quiet:room", force_recovery=True, force_positioning=True)
    assert result == {}


async def test_a_connection_token_changes_the_rules_of_its_subscriptions(world: SessionWorld) -> None:
    subs = {"quiet:room": {"override": {"presence": {"value": True}}}, "kept:room": {"override": None}}
    client = world.client()
    result = await client.connect("ada", subs=subs)
    await turn(10)
    assert set(result["subs"]) >= {"quiet:room", "kept:room"}
    assert world.present.clients("quiet:room") == [client.session.client]
