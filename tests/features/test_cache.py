"""The response cache behind a whole gateway: what clients see of a hit and of other tenants, what operators see."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cache import AsyncCache, Draft, Options, Request
from gateway.processes import child_environment
from gateway.streams import Streams
from tests.support.client import Client
from tests.support.following import Following
from tests.support.gateway import API_KEY, Gateway, serving, to_toml, with_defaults
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until

WORDS = ["The ", "answer ", "is ", "forty-two."]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def config(server: RedisServer) -> dict[str, Any]:
    return {"redis": {"url": server.url}, "streams": {"enabled": True}, "cache": {"budget_ms": 20_000}}


@pytest.fixture(scope="module")
def gateway(config: dict[str, Any]) -> Iterator[Gateway]:
    with serving(config) as gateway:
        yield gateway


@pytest.fixture
async def cache(server: RedisServer, gateway: Gateway) -> AsyncIterator[AsyncCache]:
    async with AsyncCache(server.url, options=Options(budget_s=5.0, stats_interval_s=0.1)) as cache:
        yield cache


def asked(question: str, tenant: str = "acme") -> Request:
    return Request(kind="prompt_response", tenant=tenant, provider="test", model="small", messages=[question])


async def produce(draft: Draft) -> Any:
    for word in WORDS:
        await draft.append(word)
    return {"words": 4}


async def records_of(gateway: Gateway, channel: str, user: str = "ada") -> list[dict[str, Any]]:
    """What an SDK's subscriber gets, until the end."""
    client = await Client.open(gateway.url)
    await client.connect(gateway.token(user))
    reply = await client.call(subscribe={"channel": channel})
    following = Following()
    for publication in reply.get("publications", []):
        following.take(publication["data"])
    taken = 0
    while following.terminal is None:
        for record in (await client.wait_data(channel, taken + 1))[taken:]:
            following.take(record)
            taken += 1
    assert following.text == "".join(WORDS)
    await client.aclose()
    return following.records


def shape(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs between any two streams."""
    return [{name: value for name, value in record.items() if name != "generation"} for record in records]


async def test_a_subscriber_cannot_tell_a_hit_from_any_stream_that_has_finished(
    gateway: Gateway, cache: AsyncCache, server: RedisServer
) -> None:
    async with Streams(server.url) as streams, streams.open("plain", owner="ada") as writer:
        for word in WORDS:
            await writer.append(word)
        await writer.finish(usage={"words": 4})
    first = await cache.get_or_stream(asked("hit"), produce, owner="ada")
    assert await first.text() == "".join(WORDS)
    await wait_until(lambda: cache.stats().flights == 0, "Redis has it")
    hit = await cache.get_or_stream(asked("hit"), produce, owner="ada")
    assert hit.level == "redis"

    def whole(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert [record["type"] for record in records] == ["snapshot", "finished"]
        return [{name: value for name, value in record.items() if name != "seq"} for record in shape(records)]

    assert whole(await records_of(gateway, hit.channel)) == whole(await records_of(gateway, "stream:plain"))


async def test_a_subscriber_sees_the_answer_live_and_may_come_before_it(gateway: Gateway, cache: AsyncCache) -> None:
    go_on = asyncio.Event()

    async def slow(draft: Draft) -> Any:
        await draft.append(WORDS[0])
        await go_on.wait()
        for word in WORDS[1:]:
            await draft.append(word)
        return {"words": 4}

    answer = await cache.get_or_stream(asked("live"), slow, owner="ada")
    await wait_until(lambda: answer.generation, "the stream is opened")
    watching = asyncio.ensure_future(records_of(gateway, answer.channel))
    await asyncio.wait((watching,), timeout=0.2)
    assert not watching.done()
    go_on.set()
    records = await watching
    assert records[-1]["usage"] == {"words": 4}
    assert await answer.text() == "".join(WORDS)


async def test_an_owner_ends_an_answer_for_everybody(gateway: Gateway, cache: AsyncCache) -> None:
    stopped = asyncio.Event()

    async def endless(draft: Draft) -> Any:
        try:
            await draft.append("on and on")
            await asyncio.Event().wait()
        finally:
            stopped.set()

    answer = await cache.get_or_stream(asked("cancel"), endless, owner="ada")
    client = await Client.open(gateway.url)
    await client.connect(gateway.token("ada"))
    while "error" in (said := await client.command(rpc={"method": "stream.cancel", "data": {"stream": answer.key}})):
        assert said["error"]["code"] == 410  # not opened yet
    await client.aclose()
    with pytest.raises(Exception, match="is cancelled"):
        await answer.text()
    await stopped.wait()
    assert answer.status == "cancelled"
    await wait_until(lambda: cache.stats().flights == 0, "Redis has it")
    again = await cache.get_or_stream(asked("cancel"), produce, owner="ada")
    assert again.level == "produced"


async def test_tenants_share_nothing(gateway: Gateway, cache: AsyncCache) -> None:
    for tenant in ("a", "b"):

        async def own(draft: Draft, tenant: str = tenant) -> Any:
            await draft.append(f"for {tenant} only")

        answer = await cache.get_or_stream(asked("secret", tenant), own, owner=tenant)
        assert (answer.level, await answer.text()) == ("produced", f"for {tenant} only")
        await wait_until(lambda: cache.stats().flights == 0, "Redis has it")
        other = await Client.open(gateway.url)
        await other.connect(gateway.token("b" if tenant == "a" else "a"))
        assert (await other.error(subscribe={"channel": answer.channel}))["code"] == 103
        await other.aclose()


async def test_operators_see_what_the_caches_of_backends_count(gateway: Gateway, cache: AsyncCache) -> None:
    for _ in range(3):
        await (await cache.get_or_stream(asked("counted"), produce)).text()
        await wait_until(lambda: cache.stats().flights == 0, "Redis has it")
    headers = {"X-API-Key": API_KEY}
    async with httpx.AsyncClient(base_url=gateway.control_url, headers=headers) as http:
        while 'gateway_cache_hits_total{kind="prompt_response",level="redis"}' not in (
            metrics := (await http.get("/metrics")).text
        ):
            await asyncio.sleep(0.05)
        caches = (await http.get("/dashboard/state")).json()["caches"]
    assert 'gateway_cache_hit_rate{kind="prompt_response"}' in metrics
    assert caches[0]["kind"] == "prompt_response"
    assert caches[0]["hits"] >= 1


def test_the_example_thinks_once(gateway: Gateway, config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(to_toml(with_defaults(config)))
    said = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-m", "gateway.cache.examples.ask", str(file), "ada", "Why?"],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        said.append([line for line in run.stdout.splitlines() if not line.startswith("20")])
    assert [lines[0].split()[0] for lines in said] == ["produced", "redis"]
    assert said[0][0].split()[1] == said[1][0].split()[1]
    assert said[0][1:] == said[1][1:]
    assert said[0][-1] == "{'words': 18}"
