"""The PyPI package `centrifuge-python`, JSON, unchanged, against the running gateway."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import centrifuge
import pytest

from tests.support.gateway import Gateway, encode_token
from tests.support.waiting import DEADLINE_S, wait_until


class Events(centrifuge.ClientEventHandler):
    """Keeps what the SDK tells, as (event, context)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def of(self, event: str) -> list[Any]:
        return [context for name, context in self.seen if name == event]

    async def on_connecting(self, ctx: Any) -> None:
        self.seen.append(("connecting", ctx))

    async def on_connected(self, ctx: Any) -> None:
        self.seen.append(("connected", ctx))

    async def on_disconnected(self, ctx: Any) -> None:
        self.seen.append(("disconnected", ctx))

    async def on_error(self, ctx: Any) -> None:
        self.seen.append(("error", ctx))

    async def on_publication(self, ctx: Any) -> None:
        self.seen.append(("publication", ctx))


class Subscribed(centrifuge.SubscriptionEventHandler):
    """The same for one subscription."""

    def __init__(self) -> None:
        self.publications: list[Any] = []
        self.ended: list[Any] = []

    async def on_publication(self, ctx: Any) -> None:
        self.publications.append(ctx.pub)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self.ended.append(ctx)

    async def wait_data(self, count: int) -> list[Any]:
        await wait_until(lambda: len(self.publications) >= count, f"{count} publications")
        return [publication.data for publication in self.publications]


OpenClient = Callable[..., Any]


@pytest.fixture
async def open_client(gateway: Gateway) -> AsyncIterator[OpenClient]:
    """`open_client("ada")`: a connected client of the SDK, and its events."""
    opened: list[centrifuge.Client] = []

    async def open_client(user: str, **options: Any) -> tuple[centrifuge.Client, Events]:
        events = Events()
        options = {"token": gateway.token(user), "min_reconnect_delay": 0.05, "max_reconnect_delay": 0.5} | options
        opened.append(centrifuge.Client(gateway.url, events=events, proxy=None, **options))
        await opened[-1].connect()
        await opened[-1].ready(DEADLINE_S)
        return opened[-1], events

    yield open_client
    await disconnect(*opened)


async def disconnect(*clients: centrifuge.Client) -> None:
    """All of them, to the end: the SDK closes its sockets in tasks of its own and does not wait for them."""
    for client in clients:
        await client.disconnect()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=DEADLINE_S)


async def subscribe(client: centrifuge.Client, channel: str) -> tuple[centrifuge.Subscription, Subscribed]:
    events = Subscribed()
    subscription = client.new_subscription(channel, events=events)
    await subscription.subscribe()
    await subscription.ready(DEADLINE_S)
    return subscription, events


async def test_it_connects_subscribes_and_receives_what_a_backend_publishes(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client, events = await open_client("ada")
    _, news = await subscribe(client, "news")
    for number in range(100):
        gateway.publish("news", {"n": number})
    assert await news.wait_data(100) == [{"n": number} for number in range(100)]
    (connected,) = events.of("connected")
    assert gateway.logged("connection opened", client=connected.client)[0]["sdk"].startswith("python")


async def test_what_one_client_publishes_reaches_both_with_who_sent_it(open_client: OpenClient) -> None:
    (ada, _), (bob, _) = await open_client("ada"), await open_client("bob")
    sending, here = await subscribe(ada, "chat:lobby")
    _, there = await subscribe(bob, "chat:lobby")
    await sending.publish({"text": "hi"})
    for events in (here, there):
        assert await events.wait_data(1) == [{"text": "hi"}]
        assert events.publications[0].info.user == "ada"


async def test_publications_to_a_user_and_to_all_arrive_on_the_client_itself(
    gateway: Gateway, open_client: OpenClient
) -> None:
    _, events = await open_client("ada")
    gateway.publish("#ada", 1)
    gateway.publish("@all", 2)
    await wait_until(lambda: len(events.of("publication")) == 2, "both arrive")
    assert {(context.channel, context.pub.data) for context in events.of("publication")} == {("#ada", 1), ("@all", 2)}


async def test_errors_come_out_as_the_sdks_errors(open_client: OpenClient) -> None:
    client, _ = await open_client("ada")
    subscription, _ = await subscribe(client, "news")
    with pytest.raises(centrifuge.ReplyError) as caught:
        await subscription.publish(1)
    assert caught.value.code == 103
    with pytest.raises(centrifuge.ReplyError) as caught:
        await client.rpc("x", 1)
    assert caught.value.code == 108
    refused = Subscribed()
    await client.new_subscription("closed:x", events=refused).subscribe()
    await wait_until(lambda: refused.ended, "the subscription is refused")
    assert refused.ended[0].code == 103


async def test_an_expired_token_is_replaced_through_get_token(gateway: Gateway, open_client: OpenClient) -> None:
    asked = 0

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        return gateway.token("ada")

    client, _ = await open_client("ada", token=encode_token({"sub": "ada", "exp": 1}), get_token=get_token)
    await subscribe(client, "news")
    assert asked == 1


async def test_an_invalid_token_ends_for_good_with_3500(gateway: Gateway) -> None:
    events = Events()
    token = encode_token({"sub": "eve"}, "another secret, also of more than 32 bytes")
    client = centrifuge.Client(gateway.url, events=events, token=token, proxy=None)
    await client.connect()
    await wait_until(lambda: events.of("disconnected"), "it gives up")
    assert [context.code for context in events.of("disconnected")] == [3500]
    assert client.state is centrifuge.ClientState.DISCONNECTED


async def test_it_comes_back_and_resubscribes_after_its_worker_was_killed(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client, events = await open_client("ada")
    _, news = await subscribe(client, "news")
    os.kill(gateway.pid("edge-1"), signal.SIGKILL)
    await wait_until(lambda: len(events.of("connected")) == 2, "it is connected again")
    gateway.look_around()
    # The SDK subscribes again behind the reply to `connect`: publish until it has.
    async with asyncio.timeout(DEADLINE_S):
        while not news.publications:
            gateway.publish("news", "after")
            await asyncio.sleep(0.01)
    assert news.publications[0].data == "after"
