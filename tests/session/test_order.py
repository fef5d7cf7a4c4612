"""The order rules of the protocol, and commands that are not what they should be."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.metrics import names
from tests.support.hub import turn
from tests.support.session import SessionWorld

CONNECT = {"id": 1, "connect": {}}
ANONYMOUS = {"auth": {"anonymous": True}}


@pytest.mark.parametrize(
    "command",
    [
        {"id": 1, "subscribe": {"channel": "news"}},
        {"id": 1, "publish": {"channel": "news", "data": 1}},
        {"id": 1, "rpc": {"method": "x"}},
        {"id": 1, "refresh": {"token": "x"}},
        {"id": 1, "ping": {}},
        {"id": 1},
        {"send": {"data": 1}},
        {},
    ],
)
async def test_any_command_before_connect_closes_with_3501(command: dict[str, Any]) -> None:
    client = SessionWorld(**ANONYMOUS).client()
    assert await client.frame(command) == []
    assert client.closed == 3501


async def test_a_second_connect_closes_with_3501() -> None:
    client = await SessionWorld().connected()
    await client.frame(CONNECT)
    assert client.closed == 3501


async def test_a_second_connect_in_the_same_frame_closes_with_3501_after_the_first_is_answered() -> None:
    client = SessionWorld(**ANONYMOUS).client()
    (answer,) = await client.frame(CONNECT, {"id": 2, "connect": {}})
    assert answer["connect"]["client"]
    assert client.closed == 3501


@pytest.mark.parametrize("command", [{}, {"subscribe": {"channel": "news"}}, {"id": 0, "connect": {}}])
async def test_an_unsolicited_pong_or_a_command_without_id_closes_with_3501(command: dict[str, Any]) -> None:
    client = await SessionWorld().connected()
    await client.frame(command)
    assert client.closed == 3501


@pytest.mark.parametrize("number", [-1, 2**32, 2**70])
async def test_an_id_that_is_no_uint32_closes_with_3501(number: int) -> None:
    client = await SessionWorld().connected()
    await client.frame({"id": number, "ping": {}})
    assert client.closed == 3501


async def test_the_largest_id_is_answered() -> None:
    client = await SessionWorld().connected()
    assert await client.frame({"id": 2**32 - 1, "ping": {}}) == [{"id": 2**32 - 1, "ping": {}}]


async def test_nothing_behind_what_closed_the_connection_is_carried_out() -> None:
    world = SessionWorld(namespaces={"default": {"publish_by": "anyone"}})
    client = await world.connected()
    publish = {"publish": {"channel": "news", "data": 1}}
    await client.frame({"id": 2, **publish}, {}, {"id": 3, **publish})
    assert len(world.broker.published) == 1
    await client.frame({"id": 4, **publish})
    assert len(world.broker.published) == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({}, 104),
        ({"invented": {}}, 104),
        ({"ping": {}, "rpc": {}}, 107),
        ({"rpc": {"method": "x"}}, 108),
        ({"subscribe": {"channel": "no such:x"}}, 107),
        ({"subscribe": {"channel": "unknown:x"}}, 102),
        ({"subscribe": {"channel": ""}}, 107),
        ({"subscribe": {"channel": "x" * 256}}, 107),
        ({"subscribe": {"channel": "caf\u00e9"}}, 107),
        ({"subscribe": {"channel": "{x}"}}, 107),
        ({"subscribe": {"channel": "@all"}}, 105),
        ({"unsubscribe": {"channel": "{x}"}}, 107),
        ({"unsubscribe": {"channel": "@all"}}, 103),
        ({"publish": {"channel": "news", "data": 1}}, 103),
        ({"publish": {"channel": "unknown:x", "data": 1}}, 102),
        ({"history": {"channel": "news"}}, 103),
        ({"history": {"channel": "#42"}}, 108),
        ({"history": {"channel": "unknown:x"}}, 102),
        ({"presence": {"channel": "news"}}, 103),
        ({"presence": {"channel": "#42"}}, 108),
        ({"presence_stats": {"channel": "news"}}, 103),
        ({"presence_stats": {"channel": "#42"}}, 108),
        ({"sub_refresh": {"channel": "news", "token": "x"}}, 103),
    ],
)
async def test_a_command_that_cannot_be_carried_out_has_its_code_and_the_connection_lives(
    command: dict[str, Any], code: int
) -> None:
    world = SessionWorld()
    client = await world.connected()
    answer = await client.ask(**command)
    assert answer["error"]["code"] == code
    assert answer["error"].get("temporary", False) is False
    assert client.closed is None
    assert world.counters[names.COMMAND_ERRORS] == 1


async def test_the_message_of_a_refused_name_says_what_is_wrong_with_it() -> None:
    client = await SessionWorld().connected()
    answer = await client.ask(subscribe={"channel": "x" * 256})
    assert answer["error"]["message"] == "bad request: channel name has 256 characters, 255 are allowed"


async def test_send_has_no_answer() -> None:
    client = await SessionWorld().connected()
    assert await client.frame({"send": {"data": {"x": 1}}}) == []
    assert client.closed is None


async def test_all_answers_that_are_due_at_once_leave_in_one_write() -> None:
    client = SessionWorld(**ANONYMOUS).client()
    client.world.hub.redis.away = True  # nothing to wait for
    await client.frame(CONNECT, *({"id": number, "ping": {}} for number in range(2, 50)))
    assert [len(write) for write in client.outlet.writes] == [49]


async def test_an_unexpected_error_closes_with_3004_is_counted_and_hurts_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = SessionWorld()
    client, other = await world.connected(), await world.connected()

    def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(world.context.hub, "open", broken)
    await client.frame({"id": 5, "subscribe": {"channel": "news"}})
    assert client.closed == 3004
    assert world.counters[names.ERRORS] == 1
    assert await other.ask(ping={}) == {"id": 2, "ping": {}}


async def test_a_reply_leaves_before_the_next_command_waits() -> None:
    world = SessionWorld()
    client = await world.connected()
    client.news()
    world.confirms = False
    await client.frame({"id": 1, "subscribe": {"channel": "first"}})
    await client.frame({"id": 2, "subscribe": {"channel": "second"}})
    world.hub.confirm("first")
    await turn(4)
    assert [answer["id"] for answer in client.news()] == [1], "publications of the first may come from here on"
    world.confirms = True
    await world.settle()
    assert [answer["id"] for answer in client.news()] == [2]
