"""The official SDKs in Protobuf, as native mobile SDKs speak it, beside JSON clients in the same channels."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import centrifuge
import pytest

from tests.sdk.conftest import JavaScript
from tests.sdk.test_python import Events, Subscribed, disconnect, subscribe
from tests.support.gateway import Gateway, serving
from tests.support.proxy import cable
from tests.support.waiting import DEADLINE_S

PAYLOAD = b"\x00\x01\xfe\xff not JSON"
IN_JSON = {"$binary": base64.b64encode(PAYLOAD).decode()}
IN_SDK = {"base64": base64.b64encode(PAYLOAD).decode()}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config: dict[str, Any] = {
        "delivery": {"unsubscribe_delay_s": 0.2},
        "namespaces": {
            "default": {},
            "chat": {"publish_by": "subscriber", "presence": True, "join_leave": True}
            | {"history_size": 100, "history_ttl_s": 60, "recover": True},
        },
    }
    with serving(config) as gateway:
        yield gateway


def connected(js: JavaScript, gateway: Gateway, user: str, channel: str, *, protobuf: bool, url: str = "") -> None:
    js.create(user, url or gateway.url, token=gateway.token(user), protobuf=protobuf)
    js.do("subscribe", user, channel=channel)
    js.do("connect", user)
    js.wait(user, "subscribed", channel=channel)


def data(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in events]


@pytest.mark.node
def test_javascript_in_protobuf_and_in_json_hear_each_other(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "chat:lobby", protobuf=True)
    connected(js, gateway, "bob", "chat:lobby", protobuf=False)
    gateway.publish("chat:lobby", {"from": "backend", "text": "grüß\ndich"})
    assert "done" in js.do("publish", "ada", channel="chat:lobby", data={"text": "hi"})
    assert "done" in js.do("publish", "bob", channel="chat:lobby", data=[1, 2.5, None])
    for user in ("ada", "bob"):
        events = js.wait(user, "publication", 3, channel="chat:lobby")
        assert sorted(map(json.dumps, data(events))) == sorted(
            map(json.dumps, [{"from": "backend", "text": "grüß\ndich"}, {"text": "hi"}, [1, 2.5, None]])
        )
        assert {event["info"]["user"] for event in events if "info" in event} == {"ada", "bob"}
    presence = js.do("presence", "ada", channel="chat:lobby")["result"]
    assert {each["user"] for each in presence["clients"].values()} == {"ada", "bob"}
    history = js.do("history", "ada", channel="chat:lobby")["result"]
    assert len(history["publications"]) == 1
    failed = js.do("rpc", "ada", method="nothing", data=1)
    assert failed["code"] == 108


@pytest.mark.node
def test_binary_data_travels_unharmed(js: JavaScript, gateway: Gateway) -> None:
    for user, protobuf in (("ada", True), ("eve", True), ("bob", False)):
        connected(js, gateway, user, "chat:files", protobuf=protobuf)
    assert "done" in js.do("publish", "ada", channel="chat:files", data=IN_SDK)
    assert data(js.wait("eve", "publication", channel="chat:files")) == [IN_SDK]
    assert data(js.wait("bob", "publication", channel="chat:files")) == [IN_JSON]
    assert "done" in js.do("publish", "bob", channel="chat:files", data=IN_JSON)
    assert data(js.wait("ada", "publication", 2, channel="chat:files")) == [IN_SDK, IN_SDK]
    answer = gateway.call_api("publish", channel="chat:files", b64data=IN_SDK["base64"]).json()
    assert "error" not in answer
    assert data(js.wait("eve", "publication", 3, channel="chat:files"))[-1] == IN_SDK
    assert data(js.wait("bob", "publication", 3, channel="chat:files"))[-1] == IN_JSON


@pytest.mark.node
def test_javascript_in_protobuf_recovers_after_a_cut(js: JavaScript, gateway: Gateway) -> None:
    with cable(gateway.public_port) as wire:
        url = f"ws://127.0.0.1:{wire.port}/connection/websocket"
        connected(js, gateway, "ada", "chat:kept", protobuf=True, url=url)
        connected(js, gateway, "bob", "chat:kept", protobuf=False)
        assert "done" in js.do("publish", "bob", channel="chat:kept", data=0)
        js.wait("ada", "publication", channel="chat:kept")
        wire.cut()
        js.wait("ada", "connecting", 2)
        for number in range(1, 30):
            assert "done" in js.do("publish", "bob", channel="chat:kept", data=number)
        wire.mend()
        js.wait("ada", "subscribed", 2, channel="chat:kept")
        assert data(js.wait("ada", "publication", 30, channel="chat:kept")) == list(range(30))
        assert js.events("ada", "subscribed", channel="chat:kept")[1]["recovered"] is True


async def test_python_in_protobuf_and_in_json_hear_each_other(gateway: Gateway) -> None:
    clients: list[centrifuge.Client] = []
    heard: list[Subscribed] = []
    senders: list[centrifuge.Subscription] = []
    for user, use_protobuf in (("ada", True), ("bob", False)):
        client = centrifuge.Client(
            gateway.url, events=Events(), token=gateway.token(user), proxy=None, use_protobuf=use_protobuf
        )
        clients.append(client)
        await client.connect()
        await client.ready(DEADLINE_S)
        subscription, events = await subscribe(client, "chat:python")
        senders.append(subscription)
        heard.append(events)
    ada, bob = senders
    await ada.publish(b'{"text":"hi"}')
    await ada.publish(PAYLOAD)
    await bob.publish({"text": "ho"})
    assert await heard[0].wait_data(3) == [b'{"text":"hi"}', PAYLOAD, b'{"text": "ho"}']
    assert await heard[1].wait_data(3) == [{"text": "hi"}, IN_JSON, {"text": "ho"}]
    assert [each.info.user for each in heard[0].publications] == ["ada", "ada", "bob"]
    stats = await ada.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 2)
    with pytest.raises(centrifuge.ReplyError) as caught:
        await clients[0].rpc("x", b"1")
    assert caught.value.code == 108
    await disconnect(*clients)
