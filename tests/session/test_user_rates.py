"""Rates of publications, and of all connections of a user."""

from __future__ import annotations

from typing import Any

from gateway.metrics import names
from gateway.session import RateLimit
from gateway.session.rate import SWEEP_ABOVE, UserRates
from tests.support.session import Client, SessionWorld

OPEN = {"namespaces": {"default": {"publish_by": "authenticated"}}}


def publish(number: int, channel: str = "news") -> dict[str, Any]:
    return {"id": number, "publish": {"channel": channel, "data": 1}}


async def codes(client: Client, *commands: dict[str, Any]) -> list[int]:
    """Error codes of the answers, 0 for results."""
    return [answer.get("error", {}).get("code", 0) for answer in await client.frame(*commands) if "id" in answer]


async def test_a_client_may_publish_so_much_and_no_more() -> None:
    world = SessionWorld(limits={"publishes_per_s": 10, "publishes_burst": 3}, **OPEN)
    client = await world.connected()
    answers = await client.frame(*(publish(number) for number in range(10, 15)))
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert len(answers) == 5
    assert [error["code"] for error in refused] == [111, 111]
    assert refused[0]["temporary"]
    assert len(world.broker.published) == 3
    assert world.counters[names.RATE_LIMITED] == 2
    world.clock.advance(0.1)
    assert sorted(await codes(client, publish(20), publish(21))) == [0, 111]
    assert await codes(client, {"id": 22, "ping": {}}) == [0], "other commands are not concerned"


async def test_the_limit_is_each_client_s_own() -> None:
    world = SessionWorld(limits={"publishes_per_s": 1, "publishes_burst": 1}, **OPEN)
    one, two = await world.connected("1"), await world.connected("1")
    assert await codes(one, publish(1)) == [0]
    assert await codes(two, publish(1)) == [0]


async def test_who_goes_on_publishing_is_closed_with_3013() -> None:
    world = SessionWorld(limits={"publishes_per_s": 1, "publishes_burst": 1, "commands_burst": 20}, **OPEN)
    client = await world.connected()
    for number in range(1, 40):
        world.clock.advance(0.05)  # not more commands than are allowed
        await client.frame(publish(number))
        if client.closed:
            break
    assert client.closed == 3013
    assert number >= 20


async def test_who_listens_is_forgiven() -> None:
    world = SessionWorld(limits={"publishes_per_s": 1, "publishes_burst": 1, "commands_burst": 5}, **OPEN)
    client = await world.connected()
    for _ in range(20):
        world.clock.advance(1)
        assert sorted(await codes(client, publish(1), publish(2))) == [0, 111]
        for number in range(3):
            await client.frame({"id": 10 + number, "ping": {}})
    assert client.closed is None


async def test_all_connections_of_a_user_share_a_limit() -> None:
    world = SessionWorld(
        limits={
            "user_publishes_per_s": 1,
            "user_publishes_burst": 2,
            "user_commands_per_s": 1,
            "user_commands_burst": 5,
        },
        **OPEN,
    )
    one, two, other = await world.connected("1"), await world.connected("1"), await world.connected("2")
    assert await codes(one, publish(1)) == [0]
    assert await codes(two, publish(1)) == [0]
    assert await codes(one, publish(2)) == [111], "publications"
    assert await codes(two, {"id": 3, "ping": {}}, {"id": 4, "ping": {}}) == [0, 0]
    assert await codes(one, {"id": 5, "ping": {}}) == [111], "commands"
    assert await codes(other, publish(1)) == [0]


async def test_anonymous_clients_have_nothing_in_common() -> None:
    world = SessionWorld(
        auth={"anonymous": True},
        limits={"user_commands_per_s": 1, "user_commands_burst": 1},
        namespaces={"default": {}},
    )
    for _ in range(3):
        client = world.client()
        assert "connect" in await client.ask(connect={})
        assert "ping" in await client.ask(ping={})


def test_users_who_are_quiet_are_forgotten() -> None:
    rates = UserRates(RateLimit(10, 10))
    for number in range(100_000):
        assert rates.admit(f"user {number}", 1, now=number / 1000) == 1
        assert len(rates) <= SWEEP_ABOVE + 2 * 100 + 1
    assert rates.admit("", 1_000_000, now=0) == 1_000_000
