"""The PyPI package `cent`, unchanged, against the server API of a running gateway, and what its clients notice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import cent
import pytest

from tests.support.client import Client
from tests.support.gateway import API_KEY, Gateway, serving

NAMESPACES = {
    "kept": {"history_size": 100, "history_ttl_s": 60, "recover": True},
    "seen": {"presence": True},
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving({"server": {"workers": 2}, "namespaces": NAMESPACES}) as gateway:
        yield gateway


@pytest.fixture
def api(gateway: Gateway) -> Iterator[cent.Client]:
    client = cent.Client(f"{gateway.control_url}/api", API_KEY)
    yield client
    client.close()


@pytest.fixture
async def ada(gateway: Gateway) -> AsyncIterator[Client]:
    client = await Client.open(gateway.url)
    await client.connect(gateway.token("ada"))
    yield client
    await client.aclose()


async def pushed(client: Client, kind: str) -> Any:
    """The newest push of that kind, once there is one."""
    await client.wait(lambda: any(kind in push for push in client.pushes), f"a push {kind}")
    return [push for push in client.pushes if kind in push][-1]


async def test_publish_and_history(api: cent.Client, ada: Client) -> None:
    await ada.subscribe("kept:a")
    first = api.publish(cent.PublishRequest(channel="kept:a", data={"n": 1}, tags={"k": "v"}, idempotency_key="one"))
    again = api.publish(cent.PublishRequest(channel="kept:a", data={"n": 1}, tags={"k": "v"}, idempotency_key="one"))
    assert (first.offset, first.epoch) == (1, again.epoch)
    assert again.offset == 1
    assert await ada.wait_data("kept:a") == [{"n": 1}]
    history = api.history(cent.HistoryRequest(channel="kept:a", limit=-1, since=cent.StreamPosition()))
    assert [(each.data, each.offset, each.tags) for each in history.publications] == [({"n": 1}, 1, {"k": "v"})]
    assert (history.offset, history.epoch) == (1, first.epoch)
    api.history_remove(cent.HistoryRemoveRequest(channel="kept:a"))
    assert api.history(cent.HistoryRequest(channel="kept:a", limit=-1)).publications == []


async def test_broadcast(api: cent.Client, ada: Client) -> None:
    await ada.subscribe("one")
    await ada.subscribe("kept:two")
    answer = api.broadcast(cent.BroadcastRequest(channels=["one", "kept:two", "nowhere:three"], data="x"))
    assert [response.error.code if response.error else 0 for response in answer.responses] == [0, 0, 102]
    assert answer.responses[1].result.offset == 1
    assert await ada.wait_data("one") == ["x"]
    assert await ada.wait_data("kept:two") == ["x"]


async def test_subscribe_and_unsubscribe(api: cent.Client, ada: Client) -> None:
    override = cent.ChannelOptionsOverride(presence=cent.BoolValue(value=True))
    api.subscribe(cent.SubscribeRequest(user="ada", channel="given", data={"why": "api"}, override=override))
    assert await pushed(ada, "subscribe") == {"channel": "given", "subscribe": {"data": {"why": "api"}}}
    api.publish(cent.PublishRequest(channel="given", data=1))
    assert await ada.wait_data("given") == [1]
    api.unsubscribe(cent.UnsubscribeRequest(user="ada", channel="given"))
    assert (await pushed(ada, "unsubscribe"))["unsubscribe"]["code"] == 2000


async def test_presence(api: cent.Client, ada: Client) -> None:
    await ada.subscribe("seen:room")
    answer = await ada.call(presence={"channel": "seen:room"})  # the worker has told Redis
    found = api.presence(cent.PresenceRequest(channel="seen:room")).presence
    assert {client: info.user for client, info in found.items()} == dict.fromkeys(answer["presence"], "ada")
    stats = api.presence_stats(cent.PresenceStatsRequest(channel="seen:room"))
    assert (stats.num_clients, stats.num_users) == (1, 1)


async def test_refresh_and_disconnect(api: cent.Client, ada: Client) -> None:
    api.refresh(cent.RefreshRequest(user="ada", expire_at=int(time.time()) + 600))
    assert (await pushed(ada, "refresh"))["refresh"]["expires"] is True
    api.disconnect(cent.DisconnectRequest(user="ada", disconnect=cent.Disconnect(code=4500, reason="bye")))
    assert await ada.wait_closed() == (4500, "bye")


async def test_info_and_channels(api: cent.Client, gateway: Gateway, ada: Client) -> None:
    await ada.subscribe("listed")
    assert api.channels(cent.ChannelsRequest(pattern="list*")).channels["listed"].num_clients == 1
    await ada.wait(lambda: len(api.info(cent.InfoRequest()).nodes) == 2, "both workers in the list of nodes")
    await ada.wait(lambda: sum(node.num_clients for node in api.info(cent.InfoRequest()).nodes) == 1, "one client")


async def test_batch(api: cent.Client, ada: Client) -> None:
    await ada.subscribe("batched")
    answer = api.batch(
        cent.BatchRequest(
            requests=[
                cent.PublishRequest(channel="batched", data=1),
                cent.PublishRequest(channel="kept:batched", data=2),
                cent.HistoryRequest(channel="kept:batched", limit=-1),
                cent.PresenceStatsRequest(channel="seen:batched"),
            ]
        )
    )
    assert await ada.wait_data("batched") == [1]
    assert answer.replies[1].offset == 1
    assert [each.data for each in answer.replies[2].publications] == [2]
    assert answer.replies[3].num_clients == 0


async def test_the_same_without_blocking(gateway: Gateway, ada: Client) -> None:
    await ada.subscribe("async")
    api = cent.AsyncClient(f"{gateway.control_url}/api", API_KEY)
    try:
        await api.publish(cent.PublishRequest(channel="async", data=1))
        assert await ada.wait_data("async") == [1]
        with pytest.raises(cent.CentApiResponseError) as refused:
            await api.publish(cent.PublishRequest(channel="nowhere:a", data=1))
        assert refused.value.code == 102
    finally:
        await api.close()


def test_errors_are_those_of_the_package(gateway: Gateway) -> None:
    with pytest.raises(cent.CentUnauthorizedError):
        cent.Client(f"{gateway.control_url}/api", "wrong").info(cent.InfoRequest())
    api = cent.Client(f"{gateway.control_url}/api", API_KEY)
    with pytest.raises(cent.CentApiResponseError) as refused:
        api.history(cent.HistoryRequest(channel="nohistory"))
    assert refused.value.code == 108
