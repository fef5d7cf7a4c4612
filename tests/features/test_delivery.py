"""A backend's PUBLISH reaches every subscriber on every worker: exactly once, in order."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until

WORKERS = ("edge-1", "edge-2")
BURST = 1000


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = {
        "server": {"workers": 2},
        "delivery": {"unsubscribe_delay_s": 0.5},
        "namespaces": {
            "default": {"publish_by": "subscriber"},
            "quiet": {"publish_by": "nobody"},
        },
    }
    with serving(config) as gateway:
        yield gateway


async def on_both_workers(gateway: Gateway, open_client: OpenClient, user: str, each: int = 2) -> list[Client]:
    """At least `each` clients of `user` on each worker: the kernel decides who gets where, so open until it is so."""
    clients: list[Client] = []
    held: defaultdict[str, int] = defaultdict(int)
    while min(held[worker] for worker in WORKERS) < each:
        assert len(clients) < 60, f"SO_REUSEPORT spreads badly: {dict(held)}"
        clients.append(await open_client(user))
        held[gateway.worker_of(clients[-1].id)] += 1
    return clients


async def test_clients_are_spread_over_the_workers_and_metrics_show_it(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = await on_both_workers(gateway, open_client, "ada", each=1)
    await wait_until(lambda: gateway.metric("gateway_connections") == len(clients), "metrics count every connection")
    assert all(gateway.metric("gateway_connections", worker=worker) >= 1 for worker in WORKERS)
    assert len({client.connected["node"] for client in clients}) == 1


async def test_a_publish_reaches_every_subscriber_on_both_workers_exactly_once_in_order(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = await on_both_workers(gateway, open_client, "ada")
    for client in clients:
        await client.subscribe("news")
    documents = [{"n": 1}, "text", [1, 2.5, None], {"nested": {"ü": "ÿ"}}, 0, ""]
    for document in documents:
        assert gateway.publish("news", document) == 2
    gateway.publish("news", "last")
    for client in clients:
        assert await client.wait_data("news", len(documents) + 1) == [*documents, "last"]


async def test_a_burst_arrives_complete_and_in_order_on_both_workers(gateway: Gateway, open_client: OpenClient) -> None:
    clients = await on_both_workers(gateway, open_client, "ada")
    for client in clients:
        await client.subscribe("burst")
    with gateway.redis.pipeline(transaction=False) as pipeline:
        for number in range(BURST):
            pipeline.publish("gw:pub:burst", json.dumps({"n": number}))
        assert set(await asyncio.to_thread(pipeline.execute)) == {2}
    for client in clients:
        assert await client.wait_data("burst", BURST) == [{"n": number} for number in range(BURST)]
    assert gateway.metric("gateway_dropped_total") == 0


async def test_a_burst_over_several_channels_keeps_the_order_within_each(
    gateway: Gateway, open_client: OpenClient
) -> None:
    (client, *_) = await on_both_workers(gateway, open_client, "ada", each=1)
    for name in "abc":
        await client.subscribe(f"several-{name}")
    with gateway.redis.pipeline(transaction=False) as pipeline:
        for number in range(300):
            for name in "abc":
                pipeline.publish(f"gw:pub:several-{name}", number)
        await asyncio.to_thread(pipeline.execute)
    for name in "abc":
        assert await client.wait_data(f"several-{name}", 300) == list(range(300))


async def test_a_users_channel_reaches_every_tab_on_both_workers_and_nobody_else(
    gateway: Gateway, open_client: OpenClient
) -> None:
    tabs = await on_both_workers(gateway, open_client, "tabby")
    other = await open_client("other")
    assert "#tabby" in tabs[0].connected["subs"]
    gateway.publish("#tabby", "for you")
    gateway.publish("#other", "for the other one")
    for tab in tabs:
        assert await tab.wait_data("#tabby") == ["for you"]
    assert await other.wait_data("#other") == ["for the other one"]
    assert [push["channel"] for push in other.pushes] == ["#other"]


async def test_everyone_gets_what_is_published_to_all(gateway: Gateway, open_client: OpenClient) -> None:
    clients = [*await on_both_workers(gateway, open_client, "ada"), await open_client("bob")]
    gateway.publish("@all", {"maintenance": "at noon"})
    for client in clients:
        assert await client.wait_data("@all") == [{"maintenance": "at noon"}]


async def test_a_clients_publication_reaches_subscribers_on_both_workers_with_who_sent_it(
    gateway: Gateway, open_client: OpenClient
) -> None:
    readers = await on_both_workers(gateway, open_client, "reader", each=1)
    writer = await open_client(token=gateway.token("writer", info={"name": "Wilma"}))
    for client in (*readers, writer):
        await client.subscribe("chat")
    assert await writer.call(publish={"channel": "chat", "data": {"text": "hi\nthere"}}) == {}
    for client in (*readers, writer):
        await client.wait_data("chat")
        (publication,) = client.publications("chat")
        assert publication["data"] == {"text": "hi\nthere"}
        assert publication["info"] == {"user": "writer", "client": writer.id, "conn_info": {"name": "Wilma"}}


async def test_many_publications_of_one_client_keep_their_order(gateway: Gateway, open_client: OpenClient) -> None:
    reader, writer = await open_client("reader"), await open_client("writer")
    await reader.subscribe("talk")
    await writer.subscribe("talk")
    replies = await writer.post(*({"publish": {"channel": "talk", "data": number}} for number in range(200)))
    assert all(reply == {"id": reply["id"], "publish": {}} for reply in await asyncio.gather(*replies))
    assert await reader.wait_data("talk", 200) == list(range(200))


async def test_a_client_may_publish_only_where_the_namespace_lets_it(gateway: Gateway, open_client: OpenClient) -> None:
    client = await open_client()
    await client.subscribe("quiet:room")
    for channel in ("quiet:room", "not-subscribed", "@all", "#someone-else"):
        assert (await client.error(publish={"channel": channel, "data": 1}))["code"] == 103


async def test_unsubscribe_stops_delivery_of_that_channel_only(gateway: Gateway, open_client: OpenClient) -> None:
    client, other = await open_client(), await open_client("other")
    for each in (client, other):
        await each.subscribe("left")
        await each.subscribe("kept")
    assert await client.call(unsubscribe={"channel": "left"}) == {}
    gateway.publish("left", 1)
    gateway.publish("kept", 2)
    assert await other.wait_data("left") == [1]
    assert await client.wait_data("kept") == [2]
    assert client.data("left") == []
    await client.subscribe("left")
    gateway.publish("left", 3)
    assert await client.wait_data("left") == [3]


async def test_a_channel_without_subscribers_is_given_up_in_redis_after_the_linger_time(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client()
    await client.subscribe("short-lived")
    assert gateway.publish("short-lived", 1) == 1
    await client.wait_data("short-lived")
    await client.call(unsubscribe={"channel": "short-lived"})
    await wait_until(lambda: gateway.publish("short-lived", 2) == 0, "no worker listens to the channel any more")
    assert client.data("short-lived") == [1]
