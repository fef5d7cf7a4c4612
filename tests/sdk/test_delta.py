"""The official SDKs with deltas and numeric channel ids, which the JavaScript one asks for by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import centrifuge
import pytest

from tests.sdk.conftest import JavaScript
from tests.sdk.test_python import Events, Subscribed, disconnect
from tests.support.gateway import Gateway, serving
from tests.support.proxy import cable
from tests.support.waiting import DEADLINE_S

HISTORY = {"history_size": 1000, "history_ttl_s": 300, "recover": True}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config: dict[str, Any] = {
        "delivery": {"unsubscribe_delay_s": 0.2},
        "namespaces": {
            "default": {},
            "live": {"delta": True, "join_leave": True, "presence": True},
            "kept": {"delta": True} | HISTORY,
        },
    }
    with serving(config) as gateway:
        yield gateway


def table(number: int) -> dict[str, Any]:
    return {"n": number} | {f"player-{each}": {"name": f"Jürgen {each}", "points": each * 7} for each in range(30)}


def data(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in events]


def subscribed(js: JavaScript, gateway: Gateway, user: str, channel: str, *, protobuf: bool, url: str = "") -> None:
    js.create(user, url or gateway.url, token=gateway.token(user), protobuf=protobuf)
    js.do("subscribe", user, channel=channel, options={"delta": "fossil"})
    js.do("connect", user)
    js.wait(user, "subscribed", channel=channel)


@pytest.mark.node
@pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])
def test_javascript_reads_changes(js: JavaScript, gateway: Gateway, protobuf: bool) -> None:
    channel = f"live:{protobuf}"
    subscribed(js, gateway, "ada", channel, protobuf=protobuf)
    for number in range(20):
        gateway.publish(channel, table(number))
    assert data(js.wait("ada", "publication", 20, channel=channel)) == [table(number) for number in range(20)]
    stats = js.do("deltaStats", "ada", channel=channel)["result"]
    assert (stats["numFullPayloads"], stats["numDeltaPayloads"]) == (1, 19)
    assert stats["compressionRatio"] > 0.8


@pytest.mark.node
@pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])
def test_javascript_reads_changes_after_it_has_recovered(js: JavaScript, gateway: Gateway, protobuf: bool) -> None:
    channel = f"kept:{protobuf}"
    with cable(gateway.public_port) as wire:
        url = f"ws://127.0.0.1:{wire.port}/connection/websocket"
        subscribed(js, gateway, "ada", channel, protobuf=protobuf, url=url)
        published = 0
        for round_number in range(1, 4):
            for number in range(published, published + 5):
                gateway.publish_logged(channel, table(number))
            js.wait("ada", "publication", published + 5, channel=channel)
            wire.cut()
            js.wait("ada", "connecting", round_number + 1)
            for number in range(published + 5, published + 10):
                gateway.publish_logged(channel, table(number))
            published += 10
            wire.mend()
            js.wait("ada", "subscribed", round_number + 1, channel=channel)
        gateway.publish_logged(channel, table(published))
        assert data(js.wait("ada", "publication", published + 1, channel=channel)) == [
            table(number) for number in range(published + 1)
        ]
        assert all(event["recovered"] for event in js.events("ada", "subscribed", channel=channel)[1:])


@pytest.mark.node
def test_a_namespace_without_deltas_gives_none(js: JavaScript, gateway: Gateway) -> None:
    subscribed(js, gateway, "ada", "plain", protobuf=False)
    for number in range(3):
        gateway.publish("plain", table(number))
    assert data(js.wait("ada", "publication", 3, channel="plain")) == [table(number) for number in range(3)]
    assert js.do("deltaStats", "ada", channel="plain")["result"]["numDeltaPayloads"] == 0


@pytest.mark.node
def test_joins_and_leaves_come_by_number_too(js: JavaScript, gateway: Gateway) -> None:
    subscribed(js, gateway, "ada", "live:who", protobuf=False)
    subscribed(js, gateway, "bob", "live:who", protobuf=True)
    js.wait("ada", "join", channel="live:who", user="bob")
    js.do("disconnect", "bob")
    js.wait("ada", "leave", channel="live:who", user="bob")


@pytest.mark.parametrize("use_protobuf", [False, True])
async def test_python_reads_changes(gateway: Gateway, use_protobuf: bool) -> None:
    client = centrifuge.Client(
        gateway.url, events=Events(), token=gateway.token("ada"), proxy=None, use_protobuf=use_protobuf
    )
    await client.connect()
    await client.ready(DEADLINE_S)
    heard = Subscribed()
    channel = f"live:python-{use_protobuf}"
    subscription = client.new_subscription(channel, events=heard, delta=centrifuge.DeltaType.FOSSIL)
    await subscription.subscribe()
    await subscription.ready(DEADLINE_S)
    for number in range(10):
        gateway.publish(channel, table(number))
    found = await heard.wait_data(10)
    read = [json.loads(each) for each in found] if use_protobuf else found
    assert read == [table(number) for number in range(10)]
    assert [each.delta for each in heard.publications][:2] == [False, True]
    await disconnect(client)
