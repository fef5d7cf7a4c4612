"""The npm package `centrifuge` watches token streams: late, after a reconnect, on another node, to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.streams import Options, Streams
from tests.sdk.conftest import JavaScript
from tests.support.following import Following
from tests.support.gateway import Gateway, serving
from tests.support.proxy import cable
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.node

WORDS = ["The ", "answer ", "is ", "forty-two.\n", "Really, ", "“it” ", "is 🙂.", "\nEnd"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    with serving({"redis": {"url": server.url}, "streams": {"enabled": True}}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def other_node(server: RedisServer) -> Iterator[Gateway]:
    with serving({"redis": {"url": server.url}, "streams": {"enabled": True}}) as gateway:
        yield gateway


@pytest.fixture
async def streams(server: RedisServer) -> AsyncIterator[Streams]:
    async with Streams(server.url, options=Options(lease_s=15.0)) as streams:
        yield streams


def watching(js: JavaScript, gateway: Gateway, client: str, key: str, url: str = "", **create: Any) -> None:
    js.create(client, url or gateway.url, token=gateway.token("ada"), **create)
    js.do("subscribe", client, channel=f"stream:{key}")
    js.do("connect", client)


def followed(js: JavaScript, client: str, key: str) -> Following:
    following = Following()
    for event in js.events(client, "publication", channel=f"stream:{key}"):
        following.take(event["data"])
    return following


async def ended(js: JavaScript, client: str, key: str, kind: str = "finished") -> Following:
    """Wait for the end; everything that was there until then, checked."""

    def is_there() -> bool:
        events = js.events(client, "publication", channel=f"stream:{key}")
        return any(event["data"]["type"] == kind for event in events)

    await asyncio.to_thread(js._lines.wait_for, is_there, f"{client} sees that {key} is {kind}")
    return followed(js, client, key)


async def subscribed(js: JavaScript, client: str, key: str, count: int = 1) -> None:
    await asyncio.to_thread(js.wait, client, "subscribed", count, channel=f"stream:{key}")


@pytest.mark.parametrize("protobuf", [False, True])
async def test_late_early_and_on_another_node_they_all_have_the_same_text(
    protobuf: bool, js: JavaScript, gateway: Gateway, other_node: Gateway, streams: Streams
) -> None:
    key = f"words-{protobuf}"
    async with streams.open(key, owner="ada") as writer:
        watching(js, gateway, "early", key, protobuf=protobuf)
        await subscribed(js, "early", key)
        for word in WORDS[:5]:
            await writer.append(word)
        watching(js, other_node, "late", key, protobuf=protobuf)
        await subscribed(js, "late", key)
        for word in WORDS[5:]:
            await writer.append(word)
        await writer.finish(usage={"tokens": len(WORDS)})
    for client in ("early", "late"):
        following = await ended(js, client, key)
        assert following.text == "".join(WORDS)
        assert following.terminal is not None
        assert following.terminal["usage"] == {"tokens": len(WORDS)}
    watching(js, other_node, "after", key, protobuf=protobuf)  # the same on the phone, later
    assert (await ended(js, "after", key)).text == "".join(WORDS)


async def test_after_a_cut_the_sdk_comes_back_and_goes_on_without_a_gap(
    js: JavaScript, gateway: Gateway, streams: Streams
) -> None:
    with cable(gateway.public_port) as wire:
        async with streams.open("cut", owner="ada") as writer:
            watching(js, gateway, "ada", "cut", f"ws://127.0.0.1:{wire.port}/connection/websocket")
            await subscribed(js, "ada", "cut")
            for number in range(6):
                # Cut after the stream was accepted and before its first token, and then between tokens.
                await asyncio.to_thread(wire.cut)
                await asyncio.to_thread(js.wait, "ada", "connecting", number + 2)
                await writer.append(f"{number}.\n")
                await asyncio.to_thread(wire.mend)
                await subscribed(js, "ada", "cut", number + 2)
                assert js.events("ada", "subscribed", channel="stream:cut")[-1]["recovered"]
        assert (await ended(js, "ada", "cut")).text == "0.\n1.\n2.\n3.\n4.\n5.\n"


async def test_the_owner_cancels_with_a_call(js: JavaScript, gateway: Gateway, streams: Streams) -> None:
    async with streams.open("halt", owner="ada", interrupt=False) as writer:
        await writer.append("too long")
        watching(js, gateway, "ada", "halt")
        await subscribed(js, "ada", "halt")
        call = js.begin("rpc", "ada", method="stream.cancel", data={"stream": "halt"})
        answer = await asyncio.to_thread(js.wait_call, call)
        assert answer["result"]["data"] == {"status": "cancelled"}
        await ended(js, "ada", "halt", "cancelled")
        with pytest.raises(Exception, match="cancelled"):
            while True:
                await writer.append("more")
                await asyncio.sleep(0)


async def test_a_redis_that_restarts_without_its_data_costs_a_living_producer_and_its_watchers_nothing(
    js: JavaScript,
) -> None:
    with redis_server() as server, serving({"redis": {"url": server.url}, "streams": {"enabled": True}}) as gateway:
        async with Streams(server.url, options=Options(lease_s=1.0)) as streams:
            async with streams.open("restart", owner="ada") as writer:
                watching(js, gateway, "ada", "restart")
                await subscribed(js, "ada", "restart")
                expected = ""
                for number in range(60):
                    if number in (20, 40):
                        await asyncio.to_thread(server.kill)
                    if number in (25, 45):
                        await asyncio.to_thread(server.start)
                    expected += f"{number} is a number.\n"
                    await writer.append(f"{number} is a number.\n")
                    await asyncio.sleep(0.01)
                await writer.finish()
            following = await ended(js, "ada", "restart")
            assert following.text == expected
            assert following.lost == []
