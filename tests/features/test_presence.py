"""Presence, joins and leaves over two real workers: tabs, dead workers, a Redis that forgets everything or is away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, encode_token, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until

LEASE_S = 3.0
CONFIG = {
    "server": {"workers": 2},
    "delivery": {"presence_lease_s": LEASE_S},
    "limits": {"presence_clients": 20},
    "namespaces": {
        "room": {"presence": True, "join_leave": True},
        "quiet": {"presence": True},
        "told": {"join_leave": True},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    times = {"connect_timeout_s": 1.0, "probe_interval_s": 1.0}
    with serving(CONFIG | {"redis": {"url": server.url} | times}) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
async def both_workers(gateway: Gateway) -> None:
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both workers are in touch with Redis")


def changes(client: Client, channel: str) -> list[tuple[str, str]]:
    """Joins and leaves that `client` was told of, with the client that they are about."""
    return [
        (kind, push[kind]["info"]["client"])
        for push in client.pushes
        for kind in ("join", "leave")
        if push["channel"] == channel and kind in push
    ]


async def wait_changes(client: Client, channel: str, *expected: tuple[str, Client]) -> None:
    wanted = [(kind, about.id) for kind, about in expected]
    await client.wait(lambda: changes(client, channel) == wanted, f"{wanted} instead of {changes(client, channel)}")


async def present(client: Client, channel: str) -> dict[str, Any]:
    """Who is there, as `client` is answered. {} while Redis is away."""
    reply = await client.command(presence={"channel": channel})
    return dict(reply["presence"]["presence"]) if "presence" in reply else {}


async def wait_present(client: Client, channel: str, *clients: Client) -> None:
    wanted = {each.id for each in clients}
    found: set[str] = set()
    for _ in range(1000):
        found = set(await present(client, channel))
        if found == wanted:
            return
        await wait_a_moment()
    raise AssertionError(f"{found} instead of {wanted}")


async def wait_a_moment() -> None:
    await asyncio.sleep(0.02)


async def pair(gateway: Gateway, open_client: OpenClient, user: str = "ada") -> tuple[Client, Client]:
    """Two clients on different workers. More may be opened on the way; they subscribe to nothing."""
    first = await open_client(user)
    for _ in range(200):
        second = await open_client(user)
        if gateway.worker_of(second.id) != gateway.worker_of(first.id):
            return first, second
        await second.aclose()
    raise AssertionError("every connection goes to the same worker")


async def test_tabs_on_two_workers_are_two_clients_and_one_user(gateway: Gateway, open_client: OpenClient) -> None:
    first, second = await pair(gateway, open_client)
    for tab in (first, second):
        await tab.subscribe("room:tabs")
    for tab in (first, second):
        await wait_present(tab, "room:tabs", first, second)
        assert (await present(tab, "room:tabs"))[first.id] == {"user": "ada", "client": first.id}
        assert await tab.call(presence_stats={"channel": "room:tabs"}) == {"num_clients": 2, "num_users": 1}
    await first.aclose()
    await wait_present(second, "room:tabs", second)
    assert await second.call(presence_stats={"channel": "room:tabs"}) == {"num_clients": 1, "num_users": 1}


async def test_everyone_on_every_worker_is_told_who_joins_and_leaves(gateway: Gateway, open_client: OpenClient) -> None:
    here, there = await pair(gateway, open_client, "watcher")
    await here.subscribe("room:news")
    await wait_changes(here, "room:news", ("join", here))
    await there.subscribe("room:news")
    await wait_changes(here, "room:news", ("join", here), ("join", there))
    claims = {"sub": "ada", "info": {"name": "Ada"}}
    ada = await open_client(token=encode_token(claims))
    token = encode_token({"sub": "ada", "channel": "room:news", "info": {"role": "host"}})
    await ada.subscribe("room:news", token=token)
    await wait_changes(there, "room:news", ("join", there), ("join", ada))
    join = next(push for push in there.pushes if push.get("join", {}).get("info", {}).get("client") == ada.id)
    assert join["join"]["info"] == {
        "user": "ada",
        "client": ada.id,
        "conn_info": {"name": "Ada"},
        "chan_info": {"role": "host"},
    }
    await ada.call(unsubscribe={"channel": "room:news"})
    await wait_changes(there, "room:news", ("join", there), ("join", ada), ("leave", ada))
    await there.aclose()
    await wait_changes(
        here,
        "room:news",
        *(("join", here), ("join", there), ("join", ada), ("leave", ada), ("leave", there)),
    )


async def test_a_client_sees_itself_at_once(open_client: OpenClient) -> None:
    client = await open_client()
    for number in range(20):
        channel = f"quiet:self-{number}"
        asked = [{kind: {"channel": channel}} for kind in ("subscribe", "presence", "presence_stats", "unsubscribe")]
        _, seen, counted, _ = [await reply for reply in await client.post(*asked)]
        assert list(seen["presence"]["presence"]) == [client.id]
        assert counted["presence_stats"] == {"num_clients": 1, "num_users": 1}


async def test_presence_and_join_leave_are_separate(gateway: Gateway, open_client: OpenClient) -> None:
    here, there = await pair(gateway, open_client)
    for channel in ("quiet:a", "told:a"):
        await here.subscribe(channel)
    await wait_changes(here, "told:a", ("join", here))
    for channel in ("quiet:a", "told:a"):
        await there.subscribe(channel)
    await wait_changes(here, "told:a", ("join", here), ("join", there))
    await wait_present(here, "quiet:a", here, there)
    assert (await here.error(presence={"channel": "told:a"}))["code"] == 108
    assert (await here.error(presence_stats={"channel": "told:a"}))["code"] == 108
    await there.aclose()
    await wait_changes(here, "told:a", ("join", here), ("join", there), ("leave", there))
    await wait_present(here, "quiet:a", here)
    assert changes(here, "quiet:a") == []


async def test_of_a_crowd_only_the_number_is_told(open_client: OpenClient) -> None:
    clients = [await open_client(f"user-{number}") for number in range(21)]
    for client in clients:
        await client.subscribe("quiet:crowd")
    for _ in range(500):
        stats = await clients[0].call(presence_stats={"channel": "quiet:crowd"})
        if stats == {"num_clients": 21, "num_users": 21}:
            break
        await wait_a_moment()
    assert stats == {"num_clients": 21, "num_users": 21}
    assert (await clients[0].error(presence={"channel": "quiet:crowd"}))["code"] == 106


async def test_who_is_there_stays_there_over_many_leases(gateway: Gateway, open_client: OpenClient) -> None:
    here, there = await pair(gateway, open_client)
    await here.subscribe("room:long")
    await wait_changes(here, "room:long", ("join", here))
    await there.subscribe("room:long")
    await wait_changes(here, "room:long", ("join", here), ("join", there))
    renewals = gateway.redis.zscore("gw:presence-at:room:long", here.id)
    assert renewals is not None
    end = renewals + 3 * LEASE_S * 1000
    await wait_until(
        lambda: (gateway.redis.zscore("gw:presence-at:room:long", here.id) or 0) > end, "three leases go by"
    )
    await wait_present(here, "room:long", here, there)
    await wait_changes(here, "room:long", ("join", here), ("join", there))


async def test_the_clients_of_a_killed_worker_leave(gateway: Gateway, open_client: OpenClient) -> None:
    survivor, victim = await pair(gateway, open_client)
    await survivor.subscribe("room:crash")
    await wait_changes(survivor, "room:crash", ("join", survivor))
    await victim.subscribe("room:crash")
    await wait_changes(survivor, "room:crash", ("join", survivor), ("join", victim))
    gateway.allowed_errors.add("worker ended")
    os.kill(gateway.pid(gateway.worker_of(victim.id)), signal.SIGKILL)
    assert (await victim.wait_closed())[0] == 1006
    await wait_changes(survivor, "room:crash", ("join", survivor), ("join", victim), ("leave", victim))
    await wait_present(survivor, "room:crash", survivor)
    assert await survivor.call(presence_stats={"channel": "room:crash"}) == {"num_clients": 1, "num_users": 1}


async def test_what_redis_forgets_is_there_again_without_a_join(gateway: Gateway, open_client: OpenClient) -> None:
    here, there = await pair(gateway, open_client)
    await here.subscribe("room:amnesia")
    await wait_changes(here, "room:amnesia", ("join", here))
    await there.subscribe("room:amnesia")
    await wait_changes(here, "room:amnesia", ("join", here), ("join", there))
    gateway.redis.flushall()
    await wait_present(here, "room:amnesia", here, there)
    await wait_changes(here, "room:amnesia", ("join", here), ("join", there))


async def test_while_redis_is_away_asking_is_a_temporary_error_and_later_everyone_is_there_again(
    gateway: Gateway, server: RedisServer, open_client: OpenClient
) -> None:
    here, there = await pair(gateway, open_client)
    gone = await open_client("gone")
    for client in (here, there, gone):
        await client.subscribe("room:outage")
    await here.wait(lambda: len(changes(here, "room:outage")) == 3, "three joins")
    server.kill()
    for command in ("presence", "presence_stats"):
        assert await here.error(**{command: {"channel": "room:outage"}}) == {
            "code": 100,
            "message": "internal server error",
            "temporary": True,
        }
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 0, "both workers miss Redis")
    late = await open_client("late")
    await late.subscribe("room:outage")
    await gone.aclose()
    server.start()
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both workers are back")
    await wait_present(here, "room:outage", here, there, late)
    assert [kind for kind, client in changes(here, "room:outage") if client in (here.id, there.id)].count("join") == 2
    assert ("leave", here.id) not in changes(here, "room:outage")
    assert ("leave", there.id) not in changes(here, "room:outage")
    assert gateway.metric("gateway_internal_errors_total") == 0


async def test_a_redis_that_is_silent_for_longer_than_a_lease_makes_nobody_leave(
    gateway: Gateway, server: RedisServer, open_client: OpenClient
) -> None:
    here, there = await pair(gateway, open_client)
    await here.subscribe("room:frozen")
    await wait_changes(here, "room:frozen", ("join", here))
    await there.subscribe("room:frozen")
    await wait_changes(here, "room:frozen", ("join", here), ("join", there))
    ttl = LEASE_S * 1.2
    server.freeze()
    try:
        await wait_until(lambda: gateway.metric("gateway_redis_connected") == 0, "the probes find out")
        for _ in range(int(ttl / 0.02)):
            await wait_a_moment()
    finally:
        server.thaw()
    await wait_until(lambda: gateway.metric("gateway_redis_connected") == 2, "both workers are back")
    await wait_present(here, "room:frozen", here, there)
    assert changes(here, "room:frozen") == [("join", here.id), ("join", there.id)]


async def test_a_gateway_that_stops_leaves_no_presence_behind() -> None:
    with redis_server() as server, serving(CONFIG | {"redis": {"url": server.url}}) as gateway:
        clients = [await Client.open(gateway.url) for _ in range(10)]
        for client in clients:
            await client.connect(gateway.token("ada"))
            await client.subscribe("room:last")
        await wait_until(lambda: gateway.redis.hlen("gw:presence:room:last") == 10, "all are there")
        gateway.stop()
        assert gateway.redis.keys("gw:presence*") == []
        for client in clients:
            await client.aclose()
