"""Methods that act on clients: what every worker is told."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from msgspec import Raw

from protocol.control_messages import (
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

B64 = base64.b64encode(b'{"a": 1}').decode()


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        ("disconnect", {"user": "42"}, DisconnectClients(user="42")),
        (
            "disconnect",
            {"user": "42", "client": "c", "whitelist": ["d"], "disconnect": {"code": 4000, "reason": "bye"}},
            DisconnectClients(user="42", client="c", whitelist=("d",), code=4000, reason="bye"),
        ),
        ("unsubscribe", {"user": "42", "channel": "news"}, UnsubscribeClients(user="42", channel="news")),
        ("subscribe", {"session": "s", "channel": "news"}, SubscribeClients(session="s", channel="news")),
        (
            "subscribe",
            {
                "user": "42",
                "channel": "chat:a",
                "b64info": B64,
                "data": [1.0],
                "recover_since": {"offset": 3, "epoch": "e"},
                "expire_at": 99,
                "override": {"presence": {"value": True}, "force_push_join_leave": {"value": True}},
            },
            SubscribeClients(
                user="42",
                channel="chat:a",
                info=Raw(b'{"a": 1}'),
                data=Raw(b"[1.0]"),
                recover_since=Position(offset=3, epoch="e"),
                expire_at=99,
                override=Override(presence=Setting(True)),
            ),
        ),
        ("refresh", {"user": "42", "expire_at": 99}, RefreshClients(user="42", expire_at=99)),
        ("refresh", {"user": "42", "expired": True}, RefreshClients(user="42", expired=True)),
        ("refresh", {"client": "c", "info": "x"}, RefreshClients(client="c", info=Raw(b'"x"'))),
    ],
)
async def test_every_worker_is_told(
    control: Control, client: httpx.AsyncClient, method: str, request_: dict[str, Any], message: object
) -> None:
    answer = await client.post(f"/api/{method}", json=request_)
    assert answer.json() == {"result": {}}
    ((channel, payload),) = control.redis.published
    assert channel == "control"
    assert decode_control(payload) == message


@pytest.mark.parametrize(
    ("method", "request_", "words"),
    [
        ("disconnect", {}, "user: is missing"),
        ("disconnect", {"user": "42", "disconnect": {"code": 1000}}, "disconnect.code: must be"),
        (
            "disconnect",
            {"user": "42", "disconnect": {"code": 4000, "reason": "x" * 124}},
            "disconnect.reason: has more",
        ),
        ("disconnect", {"user": "42", "whitelist": ["c"] * 1001}, "whitelist: 1001 ids"),
        ("disconnect", {"user": 42}, "user: expected str"),
        ("unsubscribe", {"user": "42"}, "channel: is missing"),
        ("unsubscribe", {"channel": "news"}, "user: is missing"),
        ("subscribe", {"user": "42", "channel": "a b"}, "channel: channel name"),
        ("subscribe", {"user": "42", "channel": "nowhere:a"}, 'no namespace "nowhere"'),
        ("subscribe", {"user": "42", "channel": "news", "b64data": "?"}, "b64data: "),
        ("subscribe", {"user": "42", "channel": "news", "data": 1, "b64data": B64}, "b64data: is there together"),
        ("subscribe", {"user": "42", "channel": "news", "expire_at": -1}, "expire_at: is not a time"),
        ("subscribe", {"user": "42", "channel": "news", "recover_since": 3}, "recover_since: expected object"),
        ("refresh", {}, "user: is missing"),
        ("revoke_token", {}, "uid: is missing"),
        ("invalidate_user_tokens", {"issued_before": -1}, "issued_before: is not a time"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_the_field_and_nobody_is_told(
    control: Control, client: httpx.AsyncClient, method: str, request_: dict[str, Any], words: str
) -> None:
    error = (await client.post(f"/api/{method}", json=request_)).json()["error"]
    assert error["code"] in (102, 107)
    assert words in error["message"]
    assert control.redis.published == []
