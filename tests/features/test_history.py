"""Channels with history, with real processes and a real Redis: nothing is lost, nothing comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until

HISTORY = {"history_size": 5000, "history_ttl_s": 300, "recover": True}
CONFIG: dict[str, Any] = {
    "server": {"workers": 2},
    "delivery": {"unsubscribe_delay_s": 0.2, "send_budget_bytes": 65_536},
    "namespaces": {
        "default": HISTORY | {"publish_by": "subscriber"},
        "short": HISTORY | {"history_size": 5},
        "latest": HISTORY | {"recover_mode": "cache"},
        "newest": {"slow_consumer": "conflate"},
        "server": HISTORY | {"server_side": ["server:news"]},
        "plain": {},
    },
}
TIMES = {"connect_timeout_s": 1.0, "probe_interval_s": 1.0}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    with serving(CONFIG | {"redis": {"url": server.url} | TIMES}) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
async def in_touch(gateway: Gateway) -> None:
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both workers are in touch with Redis")


async def publish(client: Client, channel: str, *data: Any) -> None:
    for each in data:
        assert await client.call(publish={"channel": channel, "data": each}) == {}


def offsets(client: Client, channel: str) -> list[int]:
    return [each["offset"] for each in client.publications(channel)]


def unsubscribed(client: Client, channel: str) -> list[Any]:
    return [each["unsubscribe"] for each in client.pushes if each["channel"] == channel and "unsubscribe" in each]


async def test_publications_have_offsets_without_holes_on_every_worker(open_client: OpenClient) -> None:
    clients = [await open_client(f"user-{number}") for number in range(6)]
    for client in clients:
        answer = await client.call(subscribe={"channel": "counted"})
        assert answer["recoverable"] is True
        assert answer["positioned"] is True
        assert answer["epoch"]
        assert answer.get("offset", 0) == 0
    await publish(clients[0], "counted", *range(20))
    for client in clients:
        assert await client.wait_data("counted", 20) == list(range(20))
        assert offsets(client, "counted") == list(range(1, 21))


async def test_a_client_that_was_away_gets_what_it_missed(open_client: OpenClient) -> None:
    writer = await open_client("writer")
    await writer.subscribe("away")
    await publish(writer, "away", "a", "b", "c")
    reader = await open_client("reader")
    position = await reader.call(subscribe={"channel": "away"})
    assert position["offset"] == 3
    await reader.aclose()
    await publish(writer, "away", "d", "e")
    back = await open_client("reader")
    request = {"channel": "away", "recover": True, "epoch": position["epoch"], "offset": 3}
    answer = await back.call(subscribe=request)
    assert answer["recovered"] is True
    assert answer["was_recovering"] is True
    assert answer["offset"] == 3
    assert [(each["offset"], each["data"]) for each in answer["publications"]] == [(4, "d"), (5, "e")]
    await publish(writer, "away", "f")
    assert await back.wait_data("away") == ["f"]


async def test_more_than_a_page_is_recovered_in_parts_and_in_order(open_client: OpenClient, gateway: Gateway) -> None:
    writer = await open_client("writer")
    epoch = (await writer.call(subscribe={"channel": "many"}))["epoch"]
    for number in range(2500):
        gateway.publish_logged("many", number)
    await writer.wait_data("many", 2500)
    reader = await open_client("reader")
    answer = await reader.call(subscribe={"channel": "many", "recover": True, "epoch": epoch, "offset": 3})
    assert answer["recovered"] is True
    first = [each["data"] for each in answer["publications"]]
    rest = await reader.wait_data("many", 2497 - len(first))
    assert first + rest == list(range(3, 2500))


@pytest.mark.parametrize(("offset", "epoch"), [(0, None), (9, None), (99, None), (12, "other")])
async def test_what_cannot_be_recovered_is_said(
    open_client: OpenClient, gateway: Gateway, offset: int, epoch: str | None
) -> None:
    channel = f"short:{offset}-{epoch}"
    for number in range(15):
        own = gateway.publish_logged(channel, number, size=5).epoch
    reader = await open_client("reader")
    request = {"channel": channel, "recover": True, "epoch": epoch or own, "offset": offset}
    answer = await reader.call(subscribe=request)
    assert answer.get("recovered", False) is False
    assert answer["was_recovering"] is True
    assert answer.get("publications", []) == []
    assert (answer["offset"], answer["epoch"]) == (15, own)
    picky = await open_client("picky")
    assert (await picky.error(subscribe=request | {"flag": 2}))["code"] == 112


async def test_a_server_side_subscription_recovers_in_connect(open_client: OpenClient, gateway: Gateway) -> None:
    first = await Client.open(gateway.url)
    answer = (await first.connect(gateway.token("ada")))["subs"]["server:news"]
    await first.aclose()
    last = [gateway.publish_logged("server:news", number) for number in range(3)][-1]
    back = await Client.open(gateway.url)
    since = {"recover": True, "epoch": answer["epoch"], "offset": answer.get("offset", 0)}
    again = (await back.connect(gateway.token("ada"), subs={"server:news": since}))["subs"]["server:news"]
    assert again["recovered"] is True
    assert [each["data"] for each in again["publications"]] == [0, 1, 2]
    assert again["publications"][-1]["offset"] == last.offset
    await back.aclose()


async def test_of_a_cache_channel_a_subscriber_gets_the_newest_publication(
    open_client: OpenClient, gateway: Gateway
) -> None:
    for number in range(3):
        gateway.publish_logged("latest:price", number)
    client = await open_client("ada")
    answer = await client.call(subscribe={"channel": "latest:price"})
    assert [each["data"] for each in answer["publications"]] == [2]
    gateway.publish_logged("latest:price", 3)
    assert await client.wait_data("latest:price") == [3]
    late = await open_client("late")
    request = {"channel": "latest:price", "recover": True, "epoch": answer["epoch"], "offset": 4}
    answer = await late.call(subscribe=request)
    assert answer["recovered"] is True
    assert answer.get("publications", []) == []


async def test_history_is_read_forwards_and_backwards_and_in_pages(open_client: OpenClient, gateway: Gateway) -> None:
    for number in range(1, 11):
        position = gateway.publish_logged("read", number)
    client = await open_client("ada")
    await client.subscribe("read")

    async def read(**request: Any) -> list[int]:
        answer = await client.call(history={"channel": "read", **request})
        assert (answer["offset"], answer["epoch"]) == (10, position.epoch)
        return [each["offset"] for each in answer["publications"]]

    assert await read() == []
    assert await read(limit=-1) == list(range(1, 11))
    assert await read(limit=3) == [1, 2, 3]
    since = {"offset": 3, "epoch": position.epoch}
    assert await read(limit=3, since=since) == [4, 5, 6]
    assert await read(limit=3, reverse=True) == [10, 9, 8]
    assert await read(limit=3, reverse=True, since=since) == [2, 1]
    other = {"offset": 3, "epoch": "other"}
    assert (await client.error(history={"channel": "read", "limit": 1, "since": other}))["code"] == 112
    await client.subscribe("plain:read")
    assert (await client.error(history={"channel": "plain:read", "limit": 1}))["code"] == 108


async def test_a_lost_redis_connection_is_healed_and_nobody_notices(
    open_client: OpenClient, gateway: Gateway, server: RedisServer
) -> None:
    clients = [await open_client(f"user-{number}") for number in range(6)]
    for client in clients:
        await client.subscribe("healed")
    gateway.publish_logged("healed", 0)
    for round_ in range(5):
        await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both are connected")
        lost = gateway.metric("gateway_redis_connections_lost_total")
        gateway.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        for number in range(1, 21):
            gateway.publish_logged("healed", 20 * round_ + number)
        await wait_until(
            lambda lost=lost: gateway.metric("gateway_redis_connections_lost_total") == lost + 2, "both were lost"
        )
    for client in clients:
        assert await client.wait_data("healed", 101) == list(range(101))
        assert offsets(client, "healed") == list(range(1, 102))
        assert client.open_still
    assert gateway.metric("gateway_healed_publications_total") > 0


async def test_who_stops_reading_gets_everything_afterwards(open_client: OpenClient, gateway: Gateway) -> None:
    sleeper, awake = await open_client("sleeper"), await open_client("awake")
    for client in (sleeper, awake):
        await client.subscribe("busy")
    sleeper.fall_asleep()
    text = "x" * 4000
    behind = gateway.metric("gateway_subscribers_behind_total")
    count = 0
    while gateway.metric("gateway_subscribers_behind_total") == behind:
        for _ in range(250):
            gateway.publish_logged("busy", [count, text])
            count += 1
        assert count < 5000, "never fell behind"
        await awake.wait_data("busy", count)
    for _ in range(250):
        gateway.publish_logged("busy", [count, text])
        count += 1
    sleeper.wake_up()
    received = await sleeper.wait_data("busy", count)
    assert [number for number, _ in received] == list(range(count))
    assert sleeper.open_still
    gateway.publish_logged("busy", "live again")
    assert (await sleeper.wait_data("busy", count + 1))[-1] == "live again"


async def test_with_conflate_who_stops_reading_gets_the_newest(open_client: OpenClient, gateway: Gateway) -> None:
    sleeper, awake = await open_client("sleeper"), await open_client("awake")
    for client in (sleeper, awake):
        await client.subscribe("newest:price")
    sleeper.fall_asleep()
    dropped = gateway.metric("gateway_dropped_total", reason="slow_consumer")
    count = 0
    while gateway.metric("gateway_dropped_total", reason="slow_consumer") == dropped:
        for _ in range(250):
            gateway.publish("newest:price", [count, "x" * 4000])
            count += 1
        assert count < 10_000, "never fell behind"
        await awake.wait_data("newest:price", count)
    sleeper.wake_up()
    await sleeper.wait(lambda: [count - 1, "x" * 4000] in sleeper.data("newest:price"), "the newest arrives")
    numbers = [number for number, _ in sleeper.data("newest:price")]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < count


async def test_redis_without_its_data_is_told_to_every_subscriber(open_client: OpenClient, gateway: Gateway) -> None:
    clients = [await open_client(f"user-{number}") for number in range(4)]
    for client in clients:
        await client.subscribe("forgotten")
    gateway.publish_logged("forgotten", 1)
    for client in clients:
        await client.wait_data("forgotten")
    gateway.redis.flushall()
    new = gateway.publish_logged("forgotten", 2)
    for client in clients:
        told = await client.wait(lambda client=client: unsubscribed(client, "forgotten"), "told")
        assert [each["code"] for each in told] == [2500]
        assert client.data("forgotten") == [1]
        answer = await client.call(subscribe={"channel": "forgotten", "recover": True, "epoch": "old", "offset": 1})
        assert answer.get("recovered", False) is False
        assert (answer["offset"], answer["epoch"]) == (1, new.epoch)
