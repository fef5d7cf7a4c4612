"""Control messages, carried out on sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.metrics import names
from gateway.session import Control
from gateway.session import control as module
from protocol.control_messages import Revoked, decode_page
from tests.support.hub import turn
from tests.support.session import Client, SessionWorld


class FakeRevocations:
    """What Redis remembers."""

    def __init__(self) -> None:
        self.remembered: list[Revoked] = []
        self.away = 0
        """Times that it cannot be reached."""

    async def read(self) -> AsyncIterator[list[Revoked]]:
        if self.away:
            self.away -= 1
            raise BrokerUnavailable("away")
        for each in self.remembered:
            yield [each]


class FakeCommands:
    """Keeps what is pushed."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def submit(self, *arguments: Any, size: int = 0) -> asyncio.Future[Any]:
        self.sent.append(arguments)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(size)
        return done


class World(SessionWorld):
    """Sessions and a control that is running."""

    def __init__(self, **sections: Any) -> None:
        super().__init__(**sections)
        self.stored = FakeRevocations()
        self.commands = FakeCommands()
        self.control = Control(self.context, self.stored, self.commands, worker="node/edge-1")
        self.running = asyncio.create_task(self.control.run())

    async def tell(self, **message: Any) -> None:
        """One message, carried out."""
        self.control.received(json.dumps(message).encode())
        await self.settled()

    async def settled(self) -> None:
        for _ in range(3):
            await turn(4)
            await self.settle()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(namespaces={"news": {"history_size": 100, "history_ttl_s": 60, "recover": True}, "plain": {}})
    yield world
    world.running.cancel()


def pushes(client: Client) -> list[dict[str, Any]]:
    return [each["push"] for each in client.news() if "push" in each]


# Whom it concerns.


async def test_every_connection_of_a_user_is_closed_and_no_other(world: World) -> None:
    first, second = await world.connected("ada"), await world.connected("ada")
    other = await world.connected("bob")
    await world.tell(op="disconnect", user="ada")
    assert (first.closed, second.closed, other.closed) == (3503, 3503, None)


async def test_one_client_is_closed_with_the_code_and_reason_that_are_given(world: World) -> None:
    first, second = await world.connected("ada"), await world.connected("ada")
    await world.tell(op="disconnect", client=first.session.client, code=4001, reason="move")
    assert first.outlet.closed == (4001, "move")
    assert second.closed is None


async def test_a_client_of_another_user_is_not_closed(world: World) -> None:
    client = await world.connected("ada")
    await world.tell(op="disconnect", user="bob", client=client.session.client)
    assert client.closed is None
    await world.tell(op="disconnect", user="ada", session=client.session.client)
    assert client.closed == 3503


async def test_who_is_on_the_white_list_stays(world: World) -> None:
    first, second = await world.connected("ada"), await world.connected("ada")
    await world.tell(op="disconnect", user="ada", whitelist=[second.session.client])
    assert (first.closed, second.closed) == (3503, None)


async def test_what_cannot_be_carried_out_is_counted_and_nobody_is_hurt(world: World) -> None:
    client = await world.connected("ada")
    for payload in (b"", b"nonsense", b'{"op":"disconnect"}', b'{"op":"explode","user":"ada"}', b"\xff"):
        world.control.received(payload)
    await world.settled()
    assert world.counters[names.DROPPED_CONTROL] == 5
    assert client.closed is None
    await world.tell(op="disconnect", user="ada")
    assert client.closed == 3503


async def test_more_messages_than_can_wait_are_dropped_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 2)
    clients = [await world.connected(user) for user in ("ada", "bob", "eve")]
    for client in clients:
        world.control.received(json.dumps({"op": "disconnect", "user": client.session.user}).encode())
    await world.settled()
    assert [client.closed for client in clients] == [3503, 3503, None]
    assert world.counters[names.DROPPED_CONTROL] == 1


async def test_many_clients_are_closed_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    clients = [await world.connected("ada") for _ in range(5)]
    world.control.received(b'{"op":"disconnect","user":"ada"}')
    await turn(2)
    assert sum(client.closed is not None for client in clients) < 5
    await world.settled()
    assert all(client.closed == 3503 for client in clients)


# Subscriptions.


async def test_a_client_is_subscribed_and_told(world: World) -> None:
    client = await world.connected("ada")
    await world.tell(op="subscribe", user="ada", channel="plain:room", data={"a": 1})
    assert pushes(client) == [{"channel": "plain:room", "subscribe": {"data": {"a": 1}}}]
    await world.publish("plain:room", b"7")
    assert b'"data":7' in client.outlet.frames[-1]
    answer = await client.ask(unsubscribe={"channel": "plain:room"})
    assert answer["error"]["code"] == 103, "made by the server"


async def test_it_gets_what_it_has_missed(world: World) -> None:
    await world.connected("ada")
    for number in range(3):
        world.hub.log.put("news:a", b"%d" % number)
    client = await world.connected("bob")
    await world.tell(
        op="subscribe",
        user="bob",
        channel="news:a",
        recover_since={"offset": 1, "epoch": world.hub.log.epoch("news:a")},
    )
    told = pushes(client)
    assert told[0]["subscribe"]["recoverable"] is True
    assert told[0]["subscribe"]["offset"] == 1
    assert [(push["pub"]["offset"], push["pub"]["data"]) for push in told[1:]] == [(2, 1), (3, 2)]


async def test_who_is_there_already_is_left_alone(world: World) -> None:
    client = await world.connected("ada")
    await client.ask(subscribe={"channel": "plain:room"})
    await world.tell(op="subscribe", user="ada", channel="plain:room")
    assert pushes(client) == []
    assert not client.session.subscriptions["plain:room"].server_side


async def test_a_client_that_goes_before_redis_has_answered_leaves_nothing_behind(world: World) -> None:
    client = await world.connected("ada")
    world.confirms = False
    await world.tell(op="subscribe", user="ada", channel="plain:room")
    client.session.closed("gone")
    world.confirms = True
    await world.settled()
    assert "plain:room" not in dict(world.hub.hub.subscribers())


async def test_a_channel_that_cannot_be_is_logged_and_nothing_else(world: World) -> None:
    client = await world.connected("ada")
    await world.tell(op="subscribe", user="ada", channel="nowhere:room")
    assert client.closed is None
    assert pushes(client) == []


async def test_a_client_is_unsubscribed_for_good(world: World) -> None:
    client = await world.connected("ada")
    await client.ask(subscribe={"channel": "plain:room"})
    await world.tell(op="unsubscribe", user="ada", channel="plain:room")
    assert pushes(client) == [{"channel": "plain:room", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}]
    await world.tell(op="unsubscribe", user="ada", channel="plain:room")
    assert pushes(client) == []


async def test_a_subscription_ends_when_its_time_is_over(world: World) -> None:
    client = await world.connected("ada")
    await world.tell(op="subscribe", user="ada", channel="plain:room", expire_at=world.clock.time() + 10)
    client.news()
    world.clock.advance(10 + world.config.auth.expired_close_delay_s + 1)
    client.session.check_expiry()
    assert pushes(client)[0]["unsubscribe"]["code"] == 2501


# Refresh.


async def test_a_connection_lives_longer_and_is_told(world: World) -> None:
    client = await world.connected("ada", exp=world.clock.time() + 30)
    await world.tell(op="refresh", user="ada", expire_at=world.clock.time() + 600)
    assert pushes(client) == [{"refresh": {"expires": True, "ttl": 600}}]
    world.clock.advance(300)
    client.session.check_expiry()
    assert client.closed is None
    await world.tell(op="refresh", user="ada")
    assert pushes(client) == [{"refresh": {}}]
    assert client.session.expires_at is None


async def test_a_connection_ends_now(world: World) -> None:
    client = await world.connected("ada")
    await world.tell(op="refresh", client=client.session.client, expired=True)
    assert client.closed == 3005


# Revocation.


async def test_a_revoked_token_ends_its_connection_and_makes_no_other(world: World) -> None:
    mine, others = await world.connected("ada", jti="t"), await world.connected("ada", jti="u")
    await world.tell(op="revoked", token_id="t", expire_at=world.clock.time() + 60)
    assert (mine.closed, others.closed) == (3500, None)
    again = world.client()
    await again.frame({"id": 1, "connect": {"token": world.token("ada", jti="t")}})
    assert again.closed == 3500


async def test_a_user_s_older_tokens_are_revoked(world: World) -> None:
    now = world.clock.time()
    old, new = await world.connected("ada", iat=now - 10), await world.connected("ada", iat=now)
    other = await world.connected("bob", iat=now - 10)
    await world.tell(op="revoked", user="ada", issued_before=now - 5, expire_at=now + 60)
    assert (old.closed, new.closed, other.closed) == (3500, None, None)
    await world.tell(op="revoked", issued_before=now + 1, expire_at=now + 60)
    assert (new.closed, other.closed) == (3500, 3500)


async def test_a_revoked_subscription_token_ends_the_subscription_only(world: World) -> None:
    client = await world.connected("ada")
    token = world.token("ada", channel="$room", jti="s")
    await client.ask(subscribe={"channel": "$room", "token": token})
    await client.ask(subscribe={"channel": "plain:room"})
    await world.tell(op="revoked", token_id="s", expire_at=world.clock.time() + 60)
    assert [push["channel"] for push in pushes(client)] == ["$room"]
    answer = await client.ask(subscribe={"channel": "$room", "token": token})
    assert answer["error"]["code"] == 103
    assert client.closed is None


async def test_a_revoked_token_cannot_refresh(world: World) -> None:
    client = await world.connected("ada")
    await world.tell(op="revoked", token_id="t", expire_at=world.clock.time() + 60)
    await client.frame({"id": 9, "refresh": {"token": world.token("ada", jti="t")}})
    assert client.closed == 3500


async def test_what_redis_remembers_counts_when_it_is_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0)
    client = await world.connected("ada", jti="t")
    world.stored.remembered.append(Revoked(token_id="t", expire_at=world.clock.time() + 60))
    world.stored.away = 2
    world.control.redis_is_back()
    await world.settled()
    assert client.closed == 3500


# Surveys.


def answers(world: World) -> list[Any]:
    return [decode_page(sent[2]) for sent in world.commands.sent if sent[0] == "RPUSH"]


async def test_a_survey_is_answered_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SURVEY_PAGE", 2)
    clients = [await world.connected(user) for user in ("ada", "bob")]
    for name in ("plain:a", "plain:b", "plain:c", "news:a"):
        await clients[0].ask(subscribe={"channel": name})
    await clients[1].ask(subscribe={"channel": "plain:b"})
    await world.tell(op="survey", reply_to="gw:survey:1", pattern="plain:*")
    pages = answers(world)
    assert [page.last for page in pages] == [False, True]
    assert {name: count for page in pages for name, count in page.channels.items()} == {
        "plain:a": 1,
        "plain:b": 2,
        "plain:c": 1,
    }
    assert {page.worker for page in pages} == {"node/edge-1"}
    assert ("EXPIRE", "gw:survey:1", 60) in world.commands.sent


async def test_a_survey_cannot_write_anywhere_else(world: World) -> None:
    await world.tell(op="survey", reply_to="gw:log:news")
    assert world.commands.sent == []
