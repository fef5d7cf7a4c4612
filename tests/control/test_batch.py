"""batch: many commands in one request."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.control.streams import PAGE
from protocol.redis_contract import Metadata
from tests.control.conftest import Control


async def batch(control: Control, *commands: object, parallel: bool = False) -> list[dict[str, Any]]:
    replies = (await control.call("batch", {"commands": commands, "parallel": parallel}))["replies"]
    assert len(replies) == len(commands)
    return list(replies)


@pytest.mark.parametrize("parallel", [False, True])
async def test_each_command_has_its_own_result_or_error_in_order(live: Control, parallel: bool) -> None:
    await live.result("publish", channel="chat:a", data=0)
    replies = await batch(
        live,
        {"publish": {"channel": "news", "data": 1}},
        {"publish": {"channel": "chat:b", "data": 1}},
        {"publish": {"data": 1}},
        {"no_such": {}},
        {"history": {"channel": "chat:a", "limit": 10}},
        {"history": {"channel": "news"}},
        {"presence": {"channel": "chat:a"}},
        {"presence_stats": {"channel": "chat:a"}},
        {"rpc": {"method": "x"}},
        {"batch": {"commands": []}},
        {},
        {"info": {}, "publish": {}},
        {"publish": 3},
        parallel=parallel,
    )
    assert replies[0] == {"publish": {}}
    assert replies[1]["publish"]["offset"] == 1
    assert [publication["data"] for publication in replies[4]["history"]["publications"]] == [0]
    assert replies[6] == {"presence": {"presence": {}}}
    assert replies[7] == {"presence_stats": {"num_clients": 0, "num_users": 0}}
    codes = [reply.get("error", {}).get("code", 0) for reply in replies]
    assert codes == [0, 0, 107, 104, 0, 108, 0, 0, 108, 107, 107, 107, 107]
    assert replies[2]["error"]["message"] == "bad request: channel: is missing"


async def test_without_parallel_a_command_sees_what_those_before_it_did(live: Control) -> None:
    replies = await batch(
        live,
        {"publish": {"channel": "chat:a", "data": 1}},
        {"history": {"channel": "chat:a", "limit": -1}},
        {"history_remove": {"channel": "chat:a"}},
        {"history": {"channel": "chat:a", "limit": -1}},
    )
    assert [len(replies[index]["history"]["publications"]) for index in (1, 3)] == [1, 0]


async def test_parallel_commands_are_under_way_at_once(control: Control) -> None:
    """The first is answered when the last has been given to Redis."""
    waiting: list[asyncio.Future[int]] = []

    def hold(*_arguments: object, size: int = 0) -> asyncio.Future[int]:
        waiting.append(asyncio.get_running_loop().create_future())
        if len(waiting) == 3:
            for done in waiting:
                done.set_result(1)
        return waiting[-1]

    control.redis.submit = hold  # type: ignore[method-assign]
    commands = [{"publish": {"channel": "news", "data": n}} for n in range(3)]
    async with asyncio.timeout(20):
        assert await batch(control, *commands, parallel=True) == [{"publish": {}}] * 3


@pytest.mark.parametrize("parallel", [False, True])
async def test_large_results_stand_whole_between_the_others(live: Control, parallel: bool) -> None:
    sent = [
        live.backends.log.append("chat:a", b'{"n":%d}' % n, Metadata(), size=10_000, ttl_s=600)
        for n in range(2 * PAGE + 1)
    ]
    await asyncio.gather(*sent)
    history = {"history": {"channel": "chat:a", "limit": -1}}
    publish = {"publish": {"channel": "news", "data": 1}}
    replies = await batch(live, publish, history, publish, history, parallel=parallel)
    assert [len(replies[index]["history"]["publications"]) for index in (1, 3)] == [2 * PAGE + 1] * 2
    assert replies[0] == replies[2] == {"publish": {}}


async def test_a_thousand_commands_are_allowed_and_no_more(control: Control) -> None:
    command = {"publish": {"channel": "news", "data": 1}}
    assert await batch(control, *[command] * 1000, parallel=True) == [{"publish": {}}] * 1000
    code, message = await control.error("batch", commands=[command] * 1001)
    assert (code, "1000 are allowed" in message) == (107, True)
    assert len(control.redis.published) == 1000


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", "body"), (b"[]", "body"), (b'{"commands":{}}', "commands"), (b'{"commands":[1]}', "commands")],
)
async def test_what_is_no_batch_is_one_error(control: Control, body: bytes, field: str) -> None:
    async with control.client() as client:
        answer = (await client.post("/api/batch", content=body)).json()
    assert answer["error"]["code"] == 107
    assert answer["error"]["message"].startswith(f"bad request: {field}")


async def test_data_in_a_batch_arrives_byte_for_byte(control: Control) -> None:
    data = b'{"z":1.0,"a":123456789012345678901234567890}'
    async with control.client() as client:
        body = b'{"commands":[{"publish":{"channel":"news","data":%b}}]}' % data
        assert msgspec.json.decode((await client.post("/api/batch", content=body)).content) == {
            "replies": [{"publish": {}}]
        }
    assert control.redis.published == [("news", data)]


async def test_an_empty_batch_has_no_replies(control: Control) -> None:
    assert await control.call("batch", {}) == {"replies": []}
