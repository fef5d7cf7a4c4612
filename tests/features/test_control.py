"""What a backend tells the gateway through Redis, with two workers: each acts on its own clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.control_messages import Revoked, decode_page, encode_control
from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import SECRET, Gateway, encode_token, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until

WORKERS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    config: dict[str, Any] = {
        "server": {"workers": WORKERS},
        "redis": {"url": server.url, "connect_timeout_s": 1.0, "probe_interval_s": 1.0},
        "namespaces": {"kept": {"history_size": 100, "history_ttl_s": 60, "recover": True}},
    }
    with serving(config) as gateway:
        yield gateway


def tell(gateway: Gateway, **message: Any) -> None:
    workers = gateway.redis.publish("gw:control", json.dumps(message))
    assert workers == WORKERS


async def on_every_worker(gateway: Gateway, open_client: OpenClient, user: str) -> list[Client]:
    """Connections of a user, at least one on each worker."""
    clients: list[Client] = []
    workers: set[str] = set()
    while len(workers) < WORKERS:
        client = await Client.open(gateway.url)
        result = await client.connect(gateway.token(user))
        clients.append(client)
        workers.add(gateway.worker_of(result["client"]))
        assert len(clients) < 100
    return clients


async def test_a_user_is_disconnected_everywhere_and_others_are_not(gateway: Gateway, open_client: OpenClient) -> None:
    other = await open_client("bob")
    clients = await on_every_worker(gateway, open_client, "ada")
    tell(gateway, op="disconnect", user="ada", code=4501, reason="banned")
    for client in clients:
        assert await client.wait_closed() == (4501, "banned")
    await other.subscribe("still-here")


async def test_a_user_is_subscribed_and_unsubscribed_everywhere(gateway: Gateway, open_client: OpenClient) -> None:
    clients = await on_every_worker(gateway, open_client, "eve")
    position = gateway.publish_logged("kept:a", "missed")
    tell(gateway, op="subscribe", user="eve", channel="kept:a", recover_since={"offset": 0, "epoch": position.epoch})
    for client in clients:
        assert await client.wait_data("kept:a") == ["missed"]
    gateway.publish_logged("kept:a", "live")
    for client in clients:
        assert await client.wait_data("kept:a", 2) == ["missed", "live"]
    tell(gateway, op="unsubscribe", user="eve", channel="kept:a")
    for client in clients:
        await client.wait(
            lambda client=client: any("unsubscribe" in push for push in client.pushes), "a push that ends it"
        )
        await client.aclose()


async def test_a_revocation_counts_also_for_workers_that_did_not_hear_of_it(
    gateway: Gateway, server: RedisServer, open_client: OpenClient
) -> None:
    token = encode_token({"sub": "mallory", "jti": "stolen", "exp": time.time() + 600}, SECRET)
    client = await open_client(token=token)
    revoked = Revoked(token_id="stolen", expire_at=time.time() + 600)
    gateway.redis.hset("gw:revoked", "token:stolen", encode_control(revoked))
    gateway.redis.client_kill_filter(_type="pubsub")
    assert (await client.wait_closed())[0] == 3500
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == WORKERS, "both workers are back")
    again = await open_client(None)
    await again.post({"id": 1, "connect": {"token": token}})
    assert (await again.wait_closed())[0] == 3500


async def test_every_worker_answers_a_survey(gateway: Gateway, open_client: OpenClient) -> None:
    clients = await on_every_worker(gateway, open_client, "surveyed")
    for client in clients:
        await client.subscribe("counted")
    tell(gateway, op="survey", reply_to="gw:survey:test", pattern="count*")

    def pages() -> list[Any]:
        return [decode_page(each) for each in gateway.redis.lrange("gw:survey:test", 0, -1)]

    await wait_until(lambda: sum(page.last for page in pages()) == WORKERS, "both workers have answered")
    assert len({page.worker for page in pages()}) == WORKERS
    assert sum(page.channels.get("counted", 0) for page in pages()) == len(clients)
    assert 0 < gateway.redis.ttl("gw:survey:test") <= 60
    for client in clients:
        await client.aclose()


async def test_nonsense_on_the_control_channel_is_counted_and_changes_nothing(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    before = gateway.metric("gateway_control_messages_dropped_total")
    gateway.redis.publish("gw:control", b"\xff\x00 nonsense")
    tell(gateway, op="disconnect")
    await wait_until(
        lambda: gateway.metric("gateway_control_messages_dropped_total") == before + 2 * WORKERS, "they are counted"
    )
    await client.subscribe("still-here")
