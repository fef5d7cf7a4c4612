"""API keys that may do only some things."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from gateway.config.control import ApiMethod
from gateway.control.catalogue import all_methods
from tests.control.conftest import KEY, Control

KEYS = {
    "billing": {"key": "billing-key-0123456789", "methods": ["publish", "presence_stats"]},
    "chat": {"key": "chat-key-0123456789", "namespaces": ["chat"]},
    "both": {"key": "both-key-0123456789", "methods": ["broadcast"], "namespaces": ["chat", "default"]},
}


@pytest.fixture
def scoped(make_control: Callable[..., Control]) -> Control:
    namespaces = {"chat": {}, "plain": {}}
    return make_control(control={"api_keys": [KEY], "keys": KEYS}, namespaces=namespaces)


async def outcome(control: Control, name: str, method: str, **request: object) -> Any:
    """The code of the error, or 0."""
    answer = await control.call(method, request, key=KEYS[name]["key"])  # type: ignore[arg-type]
    return answer.get("error", {"code": 0})["code"]


@pytest.mark.parametrize(
    ("name", "method", "request_", "code"),
    [
        ("billing", "publish", {"channel": "news", "data": 1}, 0),
        ("billing", "publish", {"channel": "chat:a", "data": 1}, 0),
        ("billing", "broadcast", {"channels": ["news"], "data": 1}, 103),
        ("billing", "disconnect", {"user": "42"}, 103),
        ("billing", "no_such", {}, 104),
        ("chat", "publish", {"channel": "chat:a", "data": 1}, 0),
        ("chat", "publish", {"channel": "$chat:a", "data": 1}, 0),
        ("chat", "publish", {"channel": "news", "data": 1}, 103),
        ("chat", "publish", {"channel": "plain:a", "data": 1}, 103),
        ("chat", "publish", {"channel": "default:a", "data": 1}, 103),
        ("chat", "publish", {"channel": "@all", "data": 1}, 103),
        ("chat", "publish", {"channel": "#42", "data": 1}, 103),
        ("chat", "publish", {"channel": "chat", "data": 1}, 103),
        ("chat", "publish", {"channel": "", "data": 1}, 107),
        ("chat", "publish", {"channel": "a b", "data": 1}, 107),
        ("chat", "subscribe", {"channel": "chat:a", "user": "42"}, 0),
        ("chat", "subscribe", {"channel": "plain:a", "user": "42"}, 103),
        ("chat", "unsubscribe", {"channel": "plain:a", "user": "42"}, 103),
        ("chat", "history", {"channel": "plain:a"}, 103),
        ("chat", "history_remove", {"channel": "plain:a"}, 103),
        ("chat", "presence", {"channel": "plain:a"}, 103),
        ("chat", "presence_stats", {"channel": "plain:a"}, 103),
        ("chat", "disconnect", {"user": "42"}, 103),
        ("chat", "refresh", {"user": "42"}, 103),
        ("chat", "channels", {}, 103),
        ("chat", "channels", {"pattern": "chat:*"}, 103),
        ("chat", "info", {}, 103),
        ("chat", "revoke_token", {"uid": "1"}, 103),
        ("chat", "invalidate_user_tokens", {"user": "42"}, 103),
        ("both", "broadcast", {"channels": ["news", "chat:a", "#42", "default:x"], "data": 1}, 0),
        ("both", "broadcast", {"channels": ["news", "plain:a"], "data": 1}, 103),
        ("both", "publish", {"channel": "news", "data": 1}, 103),
    ],
)
async def test_a_limited_key_does_what_it_may(
    scoped: Control, name: str, method: str, request_: dict[str, object], code: int
) -> None:
    assert await outcome(scoped, name, method, **request_) == code
    if code == 103:
        assert scoped.redis.published == []


async def test_the_error_names_what_is_missing_and_no_key(scoped: Control) -> None:
    for name, method, request, words in (
        ("billing", "disconnect", {"user": "42"}, 'the API key "billing" has not the method disconnect'),
        ("chat", "publish", {"channel": "plain:a", "data": 1}, 'the API key "chat" has not the namespace plain'),
        ("both", "broadcast", {"channels": ["a", "plain:a"], "data": 1}, "has not the namespace plain"),
        ("chat", "info", {}, 'info concerns all namespaces, the API key "chat" has only chat'),
    ):
        key = str(KEYS[name]["key"])
        message = (await scoped.call(method, request, key=key))["error"]["message"]
        assert words in message
        assert key not in message


async def test_in_a_batch_each_command_is_checked(scoped: Control) -> None:
    commands = [
        {"publish": {"channel": "chat:a", "data": 1}},
        {"publish": {"channel": "plain:a", "data": 1}},
        {"info": {}},
        {"disconnect": {"user": "42"}},
    ]
    for parallel in (False, True):
        batch = {"commands": commands, "parallel": parallel}
        replies = (await scoped.call("batch", batch, key="chat-key-0123456789"))["replies"]
        assert replies[0] == {"publish": {}}
        assert [reply["error"]["code"] for reply in replies[1:]] == [103, 103, 103]
    assert [channel for channel, _ in scoped.redis.published] == ["chat:a", "chat:a"]


async def test_a_key_with_access_to_everything_and_a_foreign_one_are_told_apart(scoped: Control) -> None:
    assert (await scoped.call("disconnect", {"user": "42"}, key=KEY)) == {"result": {}}
    async with scoped.client(key="foreign-key-0123456789") as client:
        assert (await client.post("/api/publish", content=b"{}")).status_code == 401


async def test_nothing_of_a_body_is_read_for_a_method_that_the_key_has_not(scoped: Control) -> None:
    async def body() -> Any:
        raise AssertionError("was read")
        yield b""

    async with scoped.client(key=str(KEYS["billing"]["key"])) as client:
        answer = await client.post("/api/disconnect", content=body())
    assert answer.json()["error"]["code"] == 103


def test_the_configuration_knows_every_method(control: Control) -> None:
    names = {method.name for method in all_methods(control.config, control.backends, control.clock)}
    assert names == set(get_args(ApiMethod))
