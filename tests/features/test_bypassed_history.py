"""History cannot be missed unnoticed: publishers learn the rules from Redis, and plain PUBLISH is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.errors import PublishInvalid
from gateway.publisher import AsyncPublisher, Publisher
from gateway.publisher import rules as publisher_rules
from tests.features.conftest import OpenClient
from tests.support.gateway import API_KEY, Gateway, serving
from tests.support.waiting import eventually, wait_until

KEPT = {"history_size": 100, "history_ttl_s": 300, "recover": True}
CONFIG: dict[str, Any] = {
    "namespaces": {"orders": KEPT, "jobs": KEPT, "news": {}},
}
BYPASSED = "gateway_history_bypassed_total"
LINE = "publication is not in the history: publish with the publisher, the API or gw_publish, not with PUBLISH"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """One for each test: they count what it has seen."""
    with serving(CONFIG) as gateway:
        yield gateway


async def test_a_publisher_with_no_more_than_the_url_publishes_into_the_history(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client()
    await client.subscribe("orders:1")
    with Publisher(gateway.redis_url) as publisher:
        position = await asyncio.to_thread(publisher.publish, "orders:1", {"paid": True})
        assert position is not None
        with pytest.raises(PublishInvalid, match="parcels"):
            await asyncio.to_thread(publisher.publish, "parcels:1", {})
    assert await client.wait_data("orders:1", 1) == [{"paid": True}]
    assert client.publications("orders:1")[0]["offset"] == position.offset
    assert gateway.metric(BYPASSED) == 0


async def test_plain_publish_into_a_channel_with_history_is_delivered_counted_and_said(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client()
    for channel in ("orders:1", "jobs:1", "news:1"):
        await client.subscribe(channel)
    for number in range(3):
        for channel in ("orders:1", "jobs:1", "news:1"):
            gateway.publish(channel, number)
    for channel in ("orders:1", "jobs:1", "news:1"):
        assert await client.wait_data(channel, 3) == [0, 1, 2]
    assert gateway.metric(BYPASSED, reason="plain_publish") == 6
    lines = gateway.logged(LINE)
    assert [(line["namespace"], line["channel"]) for line in lines] == [("orders", "orders:1"), ("jobs", "jobs:1")]
    key = {"X-API-Key": API_KEY}
    async with httpx.AsyncClient(headers=key, trust_env=False) as http:
        shown = (await http.get(f"{gateway.control_url}/dashboard/state")).json()
    assert {"kind": "publications bypassed the history", "reason": "plain_publish", "total": 6} in [
        {name: value for name, value in tally.items() if name != "per_s"} for tally in shown["tallies"]
    ]


async def test_what_goes_past_the_history_on_purpose_is_not_reported(gateway: Gateway, open_client: OpenClient) -> None:
    client = await open_client()
    await client.subscribe("orders:1")
    gateway.call_api("publish", channel="orders:1", data=1, skip_history=True)
    async with AsyncPublisher(gateway.redis_url) as publisher:
        await publisher.publish("orders:1", 2, history=None)
        await publisher.publish("orders:1", 3)
    assert await client.wait_data("orders:1", 3) == [1, 2, 3]
    assert gateway.metric(BYPASSED) == 0


async def test_a_reload_tells_publishers(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_rules, "REFRESH_S", 0.0)
    async with AsyncPublisher(gateway.redis_url) as publisher:
        assert await publisher.publish("news:1", 1) is None
        gateway.reload(CONFIG | {"namespaces": CONFIG["namespaces"] | {"news": KEPT}})

        async def kept() -> bool:
            return await publisher.publish("news:1", 2) is not None

        await eventually(kept, "the publisher knows of the history")
    await wait_until(lambda: gateway.logged("reload done"), "the reload is done")
    gateway.look_around()


async def test_rules_come_back_when_redis_has_lost_them(gateway: Gateway) -> None:
    gateway.redis.delete("gw:rules")
    async with AsyncPublisher(gateway.redis_url) as publisher:
        assert await publisher.publish("orders:1", 1) is not None
