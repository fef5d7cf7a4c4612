"""Events of clients in a Redis Stream, with real workers that end, die and freeze."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until

LEASE_S = 2.0
Event = dict[str, str]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    config = {
        "server": {"workers": 2},
        "backend": {"events_stream": "gw:events", "events_lease_s": LEASE_S},
    }
    with serving(config) as gateway:
        gateway.allowed_errors = {"worker ended"}
        yield gateway


def events(gateway: Gateway, **wanted: str) -> list[Event]:
    entries = [
        {key.decode(): value.decode() for key, value in fields.items()}
        for _, fields in gateway.redis.xrange("gw:events")
    ]
    return [entry for entry in entries if wanted.items() <= entry.items()]


def summary(gateway: Gateway, client: str) -> list[tuple[str, str]]:
    return [(each["event"], each.get("channel", "")) for each in events(gateway, client=client)]


async def test_what_happens_to_a_client_is_told_in_order(gateway: Gateway, open_client: OpenClient) -> None:
    client = await open_client("ada")
    for channel in ("news", "sport"):
        await client.subscribe(channel)
    await client.call(unsubscribe={"channel": "news"})
    await client.aclose()
    await wait_until(lambda: events(gateway, client=client.id, event="disconnected"), "its end is told")
    assert summary(gateway, client.id) == [
        ("connected", ""),
        ("subscribed", "news"),
        ("subscribed", "sport"),
        ("unsubscribed", "news"),
        ("disconnected", ""),
    ]
    told = events(gateway, client=client.id)
    assert {each["user"] for each in told} == {"ada"}
    assert len({each["id"] for each in told}) == 5
    assert gateway.metric("gateway_lifecycle_events_total") >= 5


async def test_the_clients_of_a_killed_worker_are_told_gone_once_each(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients: list[Client] = [await open_client(f"user{n}") for n in range(40)]
    on_first = [client.id for client in clients if gateway.worker_of(client.id) == "edge-1"]
    others = {client.id for client in clients} - set(on_first)
    assert on_first, "the kernel gives each worker some of 40"
    await wait_until(lambda: len(events(gateway, event="connected")) == 40, "all are told")
    os.kill(gateway.pid("edge-1"), signal.SIGKILL)
    await wait_until(
        lambda: len(events(gateway, event="disconnected")) >= len(on_first), "the ends of all its clients are told"
    )
    gone = events(gateway, event="disconnected")
    assert Counter(each["client"] for each in gone) == Counter(on_first)
    assert {each["reason"] for each in gone} == {"lost"}
    assert not others & {each["client"] for each in gone}
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 2, "the worker is back")
    assert len(events(gateway, event="disconnected")) == len(on_first), "and nobody is told a second time"


async def test_a_frozen_worker_is_reaped_and_tells_again_when_it_goes_on(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients: list[Client] = [await open_client(f"user{n}") for n in range(20)]
    frozen = [client for client in clients if gateway.worker_of(client.id) == "edge-1"]
    assert frozen
    await frozen[0].subscribe("news")
    await wait_until(lambda: events(gateway, event="subscribed"), "all is told")
    pid = gateway.pid("edge-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        await wait_until(lambda: len(events(gateway, event="disconnected")) == len(frozen), "it is taken for dead")
    finally:
        os.kill(pid, signal.SIGCONT)
    await wait_until(lambda: len(events(gateway, event="connected")) == 20 + len(frozen), "it tells again")
    await wait_until(lambda: len(events(gateway, event="subscribed")) == 2, "of subscriptions, too")
    assert summary(gateway, frozen[0].id) == [
        ("connected", ""),
        ("subscribed", "news"),
        ("disconnected", ""),
        ("connected", ""),
        ("subscribed", "news"),
    ]
    await frozen[0].aclose()
    await wait_until(
        lambda: summary(gateway, frozen[0].id)[-1][0] == "disconnected", "its end is told under the new name"
    )


async def test_a_gateway_that_stops_tells_everybodys_end(gateway: Gateway, open_client: OpenClient) -> None:
    clients: list[Client] = [await open_client(f"user{n}") for n in range(10)]
    await wait_until(lambda: len(events(gateway, event="connected")) == 10, "all are told")
    os.kill(gateway.pid("edge-1"), signal.SIGTERM)
    os.kill(gateway.pid("edge-2"), signal.SIGTERM)
    for client in clients:
        assert (await client.wait_closed())[0] == 3001
    await wait_until(lambda: len(events(gateway, event="disconnected")) == 10, "all ends are told")
    assert {each["reason"] for each in events(gateway, event="disconnected")} == {"shutdown"}
    await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 2, "the workers are back")


async def test_when_the_only_worker_dies_its_successor_tells() -> None:
    config = {"backend": {"events_stream": "gw:events", "events_lease_s": LEASE_S}}
    with serving(config) as gateway:
        gateway.allowed_errors = {"worker ended"}
        clients = [await Client.open(gateway.url) for _ in range(5)]
        for client in clients:
            await client.connect(gateway.token("ada"))
        await wait_until(lambda: len(events(gateway, event="connected")) == 5, "all are told")
        os.kill(gateway.pid("edge-1"), signal.SIGKILL)
        await wait_until(lambda: len(events(gateway, event="disconnected")) == 5, "their ends are told")
        assert Counter(each["client"] for each in events(gateway, event="disconnected")) == Counter(
            client.id for client in clients
        )
        for client in clients:
            await client.aclose()
        await wait_until(lambda: gateway.metric("gateway_workers", state="ready") == 1, "the worker is back")
