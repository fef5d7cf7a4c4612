"""Keys that may do some things only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.control.conftest import KEY, Control

LIMITED = "limited-key-0123456789"
READER = "reader-key-0123456789"


@pytest.fixture
def control(make_control: Callable[..., Control]) -> Control:
    keys = [
        {"name": "chat", "key": LIMITED, "methods": ["publish", "broadcast", "disconnect"], "namespaces": ["chat"]},
        {"name": "anywhere", "key": READER, "methods": ["publish"]},
    ]
    return make_control(control={"api_keys": [KEY], "keys": keys})


async def call(control: Control, key: str, method: str, **request: Any) -> dict[str, Any]:
    async with control.client(key=key) as client:
        answer: dict[str, Any] = (await client.post(f"/api/{method}", json=request)).json()
    return answer


async def test_a_limited_key_may_what_it_is_for(control: Control) -> None:
    assert await call(control, LIMITED, "publish", channel="chat:a", data=1) == {"result": {}}
    assert control.redis.published == [("chat:a", b"1")]


@pytest.mark.parametrize(
    ("method", "request_", "words"),
    [
        ("publish", {"channel": "news", "data": 1}, 'not for the namespace "default"'),
        ("publish", {"channel": "#42", "data": 1}, 'not for the namespace "default"'),
        ("broadcast", {"channels": ["chat:a", "news"], "data": 1}, 'not for the namespace "default"'),
        ("history_remove", {"channel": "chat:a"}, "not for the method history_remove"),
        ("disconnect", {"user": "42"}, "limited to namespaces, disconnect is not"),
        ("info", {}, "not for the method info"),
    ],
)
async def test_and_nothing_else(control: Control, method: str, request_: dict[str, Any], words: str) -> None:
    error = (await call(control, LIMITED, method, **request_))["error"]
    assert error["code"] == 103
    assert words in error["message"]
    assert '"chat"' in error["message"]
    assert control.redis.published == []


async def test_a_batch_is_checked_command_by_command(control: Control) -> None:
    commands = [
        {"publish": {"channel": "chat:a", "data": 1}},
        {"publish": {"channel": "news", "data": 2}},
        {"info": {}},
    ]
    replies = (await call(control, LIMITED, "batch", commands=commands))["replies"]
    assert replies[0] == {"publish": {}}
    assert [reply["error"]["code"] for reply in replies[1:]] == [103, 103]
    assert control.redis.published == [("chat:a", b"1")]


async def test_a_key_without_namespaces_may_name_every_channel(control: Control) -> None:
    assert await call(control, READER, "publish", channel="news", data=1) == {"result": {}}
    assert (await call(control, READER, "info"))["error"]["code"] == 103


async def test_a_name_that_cannot_be_is_what_is_wrong_with_it(control: Control) -> None:
    assert (await call(control, LIMITED, "publish", channel="a b", data=1))["error"]["code"] == 107


async def test_a_full_key_may_everything(control: Control) -> None:
    assert await call(control, KEY, "publish", channel="news", data=1) == {"result": {}}
