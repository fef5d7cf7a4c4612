"""subscribe, unsubscribe, disconnect, refresh: what every worker hears, and what is refused before."""

from __future__ import annotations

import base64

import msgspec
import pytest
from msgspec import Raw

from gateway.errors import BrokerUnavailable
from protocol.control_messages import (
    ControlMessage,
    DisconnectClients,
    Override,
    RefreshClients,
    Setting,
    SubscribeClients,
    UnsubscribeClients,
    decode_control,
)
from protocol.position import Position
from tests.control.conftest import Control


def told(control: Control) -> ControlMessage:
    """The one message that was sent."""
    ((channel, payload),) = control.redis.published
    assert channel == "gw:control"
    return decode_control(payload)


def in_base64(value: object) -> str:
    return base64.b64encode(msgspec.json.encode(value)).decode()


async def test_subscribe_tells_everything_that_was_said(control: Control) -> None:
    request = {
        "user": "42",
        "client": "c1",
        "channel": "chat:a",
        "info": {"a": 1},
        "b64data": in_base64([1.0, 2]),
        "recover_since": {"offset": 7, "epoch": "e"},
        "expire_at": 1_900_000_000,
        "override": {"presence": {"value": True}, "force_push_join_leave": {"value": True}},
    }
    assert await control.result("subscribe", **request) == {}
    assert told(control) == SubscribeClients(
        user="42",
        client="c1",
        channel="chat:a",
        info=Raw(b'{"a":1}'),
        data=Raw(b"[1.0,2]"),
        recover_since=Position(offset=7, epoch="e"),
        expire_at=1_900_000_000,
        override=Override(presence=Setting(True)),
    )


async def test_unsubscribe_and_refresh_tell_what_was_said(control: Control) -> None:
    assert await control.result("unsubscribe", session="s1", channel="news") == {}
    assert told(control) == UnsubscribeClients(session="s1", channel="news")
    control.redis.published.clear()
    assert await control.result("refresh", user="42", expire_at=1_900_000_000, info={"x": 1}) == {}
    assert told(control) == RefreshClients(user="42", expire_at=1_900_000_000, info=Raw(b'{"x":1}'))
    control.redis.published.clear()
    assert await control.result("refresh", client="c1", expired=True) == {}
    assert told(control) == RefreshClients(client="c1", expired=True)


@pytest.mark.parametrize(
    ("given", "code", "reason"),
    [
        (None, 3503, "force disconnect"),
        ({}, 3503, "force disconnect"),
        ({"code": 0, "reason": ""}, 3503, "force disconnect"),
        ({"code": 3011}, 3011, "force reconnect"),
        ({"code": 4501, "reason": "account closed"}, 4501, "account closed"),
        ({"code": 4000}, 4000, ""),
        ({"reason": "bye"}, 3503, "bye"),
        ({"code": 3000, "reason": "é" * 61}, 3000, "é" * 61),
    ],
)
async def test_disconnect_says_how(control: Control, given: object, code: int, reason: str) -> None:
    request: dict[str, object] = {"user": "42", "whitelist": ["c1", "c2"]}
    assert await control.result("disconnect", **request, **({"disconnect": given} if given is not None else {})) == {}
    assert told(control) == DisconnectClients(user="42", code=code, reason=reason, whitelist=("c1", "c2"))


@pytest.mark.parametrize(
    ("method", "request_", "code", "words"),
    [
        ("subscribe", {"channel": "news"}, 107, "user: is missing"),
        ("unsubscribe", {"channel": "news", "user": ""}, 107, "user: is missing"),
        ("disconnect", {}, 107, "user: is missing"),
        ("disconnect", {"whitelist": ["c1"]}, 107, "user: is missing"),
        ("refresh", {"expired": True}, 107, "user: is missing"),
        ("subscribe", {"user": "42"}, 107, "channel: is missing"),
        ("subscribe", {"user": "42", "channel": "a b"}, 107, "channel: channel name has a character"),
        ("subscribe", {"user": "42", "channel": "no:x"}, 102, 'no namespace "no"'),
        ("unsubscribe", {"user": "42", "channel": "no:x"}, 102, 'no namespace "no"'),
        ("subscribe", {"user": "42", "channel": "a", "b64info": "???"}, 107, "b64info: is not base64"),
        ("subscribe", {"user": "42", "channel": "a", "b64data": "aGk="}, 107, "b64data: not a JSON document"),
        ("subscribe", {"user": "42", "channel": "a", "expire_at": -1}, 107, "expire_at: is not a time"),
        ("subscribe", {"user": "42", "channel": "a", "expire_at": 1e300}, 107, "expire_at: is not a time"),
        ("subscribe", {"user": "42", "channel": "a", "recover_since": {"offset": -1}}, 107, "recover_since.offset: "),
        ("subscribe", {"user": "42", "channel": "a", "override": {"presence": 1}}, 107, "override.presence: "),
        ("subscribe", {"user": "42", "channel": "a", "data": "x" * 1_048_570}, 107, "data: makes"),
        ("disconnect", {"user": "42", "disconnect": {"code": 2999}}, 107, "disconnect.code: "),
        ("disconnect", {"user": "42", "disconnect": {"code": 5000}}, 107, "disconnect.code: "),
        ("disconnect", {"user": "42", "disconnect": {"reason": "é" * 62}}, 107, "disconnect.reason: "),
        ("disconnect", {"user": "42", "disconnect": 3000}, 107, "disconnect: expected object"),
        ("disconnect", {"user": 42}, 107, "user: expected str"),
        ("refresh", {"user": "42", "expire_at": -5}, 107, "expire_at: is not a time"),
        ("refresh", {"user": "42", "b64info": "aGk="}, 107, "b64info: "),
    ],
)
async def test_what_is_wrong_is_refused_with_the_field_and_nobody_is_told(
    control: Control, method: str, request_: dict[str, object], code: int, words: str
) -> None:
    found, message = await control.error(method, **request_)
    assert (found, words in message) == (code, True), message
    assert control.redis.published == []


async def test_when_no_worker_hears_it_the_caller_learns_so(control: Control) -> None:
    control.redis.listeners = 0
    assert await control.error("disconnect", user="42") == (
        100,
        "internal server error: temporary, no worker listens to Redis: nothing was done",
    )
    control.redis.error = BrokerUnavailable("away")
    code, message = await control.error("disconnect", user="42")
    assert code == 100
    assert "Redis cannot be reached" in message
