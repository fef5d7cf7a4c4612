"""Who is in a channel, as its clients ask and as their sessions report it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import BrokerRefused, BrokerUnavailable
from tests.support.session import SessionWorld

ROOM = {"presence": True, "join_leave": True}


@contextlib.asynccontextmanager
async def running(**sections: Any) -> AsyncIterator[SessionWorld]:
    world = SessionWorld(**({"namespaces": {"room": ROOM, "plain": {}}} | sections))
    task = asyncio.get_running_loop().create_task(world.presence.run())
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def known(world: SessionWorld, channel: str = "room:a") -> dict[str, str]:
    """Client → user, as Redis knows them."""
    assert await world.presence.flushed(20)
    return {client: info.user for client, info in world.present.channels.get(channel, {}).items()}


async def test_subscribers_are_present_until_they_leave() -> None:
    async with running() as world:
        ada, bob = await world.connected("ada"), await world.connected("bob")
        for client in (ada, bob):
            await client.ask(subscribe={"channel": "room:a"})
        assert await known(world) == {ada.session.client: "ada", bob.session.client: "bob"}
        await ada.ask(unsubscribe={"channel": "room:a"})
        assert await known(world) == {bob.session.client: "bob"}
        bob.session.closed("connection lost")
        assert await known(world) == {}
        assert [(event, client) for _, event, client in world.present.told] == [
            ("join", ada.session.client),
            ("join", bob.session.client),
            ("leave", ada.session.client),
            ("leave", bob.session.client),
        ]


async def test_who_is_disconnected_or_loses_the_subscription_has_left() -> None:
    async with running() as world:
        ada, bob = await world.connected("ada"), await world.connected("bob")
        for client in (ada, bob):
            await client.ask(subscribe={"channel": "room:a"})
        ada.session.subscription_lost("room:a")
        assert await known(world) == {bob.session.client: "bob"}
        await bob.frame({"id": 9, "connect": {}})
        assert bob.closed == 3501
        assert await known(world) == {}


async def test_server_side_subscriptions_are_present_too() -> None:
    async with running() as world:
        ada = await world.connected("ada", channels=["room:a"])
        assert await known(world) == {ada.session.client: "ada"}


async def test_the_reply_holds_every_client_with_what_its_tokens_say_about_it() -> None:
    async with running() as world:
        ada = await world.connected("ada", info={"name": "Ada"})
        tab = await world.connected("ada")
        token = world.token("ada", channel="room:a", info={"role": "host"})
        await ada.ask(subscribe={"channel": "room:a", "token": token})
        await tab.ask(subscribe={"channel": "room:a"})
        await known(world)
        first, second = ada.session.client, tab.session.client
        assert (await tab.ask(presence={"channel": "room:a"}))["presence"] == {
            "presence": {
                first: {"user": "ada", "client": first, "conn_info": {"name": "Ada"}, "chan_info": {"role": "host"}},
                second: {"user": "ada", "client": second},
            }
        }
        assert (await tab.ask(presence_stats={"channel": "room:a"}))["presence_stats"] == {
            "num_clients": 2,
            "num_users": 1,
        }


async def test_refreshed_tokens_change_what_others_see() -> None:
    async with running() as world:
        ada = await world.connected("ada", channels=["room:b"])
        token = world.token("ada", channel="room:a", ttl_s=60)
        await ada.ask(subscribe={"channel": "room:a", "token": token})
        await known(world)
        await ada.ask(refresh={"token": world.token("ada", info=1, ttl_s=60)})
        await ada.ask(sub_refresh={"channel": "room:a", "token": world.token("ada", channel="room:a", info=2)})
        await known(world)
        own = {"user": "ada", "client": ada.session.client, "conn_info": 1}
        seen = [await ada.ask(presence={"channel": channel}) for channel in ("room:a", "room:b")]
        assert [answer["presence"]["presence"] for answer in seen] == [
            {ada.session.client: own | {"chan_info": 2}},
            {ada.session.client: own},
        ]
        assert [event for _, event, _ in world.present.told] == ["join", "join"]


@pytest.mark.parametrize("command", ["presence", "presence_stats"])
@pytest.mark.parametrize(
    ("channel", "code"), [("room:a", 103), ("plain:a", 108), ("no such:x", 107), ("unknown:x", 102), ("@all", 103)]
)
async def test_who_may_not_ask_is_refused(command: str, channel: str, code: int) -> None:
    async with running() as world:
        client = await world.connected(channels=["plain:a"])
        assert (await client.ask(**{command: {"channel": channel}}))["error"]["code"] == code


async def test_of_the_channel_of_everyone_nobody_learns_anything() -> None:
    async with running(namespaces={"default": ROOM}, auth={"insecure": True}) as world:
        client = await world.connected()
        assert (await client.ask(presence={"channel": "@all"}))["error"]["code"] == 108
        assert "presence" in await client.ask(presence={"channel": "anything"})


async def test_a_channel_with_too_many_clients_has_statistics_only() -> None:
    async with running(limits={"presence_clients": 2}) as world:
        clients = [await world.connected(str(number)) for number in range(3)]
        for client in clients[:2]:
            await client.ask(subscribe={"channel": "room:a"})
        await known(world)
        assert len((await clients[0].ask(presence={"channel": "room:a"}))["presence"]["presence"]) == 2
        await clients[2].ask(subscribe={"channel": "room:a"})
        await known(world)
        assert (await clients[0].ask(presence={"channel": "room:a"}))["error"] == {
            "code": 106,
            "message": "limit exceeded: more than 2 clients: use presence_stats",
        }
        assert (await clients[0].ask(presence_stats={"channel": "room:a"}))["presence_stats"]["num_clients"] == 3
        assert world.present.asked_for("read") == [[]]


@pytest.mark.parametrize("command", ["presence", "presence_stats"])
@pytest.mark.parametrize("error", [BrokerUnavailable("gone"), BrokerRefused("NOPERM"), None], ids=str)
async def test_without_redis_the_answer_is_a_temporary_error(command: str, error: Exception | None) -> None:
    async with running() as world:
        client = await world.connected(channels=["room:a"])
        await known(world)
        world.present.error, world.present.busy = error, error is None
        answer = await client.ask(**{command: {"channel": "room:a"}})
        assert answer["error"] == {"code": 100, "message": "internal server error", "temporary": True}


async def test_commands_behind_one_that_waits_keep_their_order_and_a_client_may_go_meanwhile() -> None:
    async with running() as world:
        client, other = await world.connected(channels=["room:a"]), await world.connected("7", channels=["room:a"])
        await known(world)
        world.present.holding = True
        assert await client.frame({"id": 5, "presence": {"channel": "room:a"}}, {"id": 6, "ping": {}}) == []
        assert await other.frame({"id": 5, "presence": {"channel": "room:a"}}) == []
        other.session.closed("connection lost")
        world.present.release()
        await world.settle()
        assert [answer["id"] for answer in client.news()] == [5, 6]
        assert other.news() == []
