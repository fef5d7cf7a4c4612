"""Token streams over a whole gateway: two workers, a real Redis, backends in this process or in one of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.processes import child_environment
from gateway.streams import Options, StreamCancelled, Streams, StreamSuperseded, StreamWriter
from tests.support.client import Client
from tests.support.following import Following
from tests.support.gateway import Gateway, serving
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import wait_until
from tests.support.watcher import Watcher

OPTIONS = Options(lease_s=15.0)
"""A machine that stands still for some seconds ends no stream."""
ROOMY = OPTIONS._replace(max_bytes=8_388_608)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[Gateway]:
    config: dict[str, Any] = {
        "server": {"workers": 2},
        "redis": {"url": server.url},
        "streams": {"enabled": True},
        "delivery": {"unsubscribe_delay_s": 0.2, "send_budget_bytes": 16_384},
    }
    with serving(config) as gateway:
        yield gateway


@pytest.fixture
async def streams(server: RedisServer, gateway: Gateway) -> AsyncIterator[Streams]:
    async with Streams(server.url, options=OPTIONS) as streams:
        yield streams


Watch = Callable[..., Awaitable[Watcher]]


@pytest.fixture
async def watch(gateway: Gateway) -> AsyncIterator[Watch]:
    watchers: list[Watcher] = []

    async def watch(key: str, user: str = "ada", **options: Any) -> Watcher:
        watcher = Watcher(gateway, key, user)
        watchers.append(watcher)
        await watcher.come(**options)
        return watcher

    yield watch
    for watcher in watchers:
        if watcher.client is not None:
            await watcher.client.aclose()


async def test_a_watcher_gets_a_snapshot_then_deltas_then_the_end(streams: Streams, watch: Watch) -> None:
    async with streams.open("plain", owner="ada") as writer:
        early = await watch("plain")
        await writer.append("Hello")
        await early.until(lambda following: following.text == "Hello", "the first token")
        await writer.append(" world.\n")
        await early.until(lambda following: following.text == "Hello world.\n", "the second")
        late = await watch("plain")
        assert late.following.text == "Hello world.\n"
        await writer.append("Bye.")
        await writer.finish(usage={"tokens": 4}, result={"stop": "end"})
    for watcher in (early, late):
        following = await watcher.end()
        assert following.text == "Hello world.\nBye."
        assert following.terminal is not None
        assert (following.terminal["usage"], following.terminal["result"]) == ({"tokens": 4}, {"stop": "end"})
        assert following.kinds.count("snapshot") == 1
    after = await watch("plain")
    assert after.following.kinds == ["snapshot", "finished"]
    assert after.following.text == "Hello world.\nBye."


async def test_who_comes_back_gets_what_it_has_missed_as_one_snapshot(streams: Streams, watch: Watch) -> None:
    async with streams.open("back", owner="ada") as writer:
        await writer.append("one ")
        watcher = await watch("back")
        await watcher.until(lambda following: following.text == "one ", "the first token")
        await watcher.go()
        for word in ("two.\n", "three.\n", "four.\n"):
            await writer.append(word)
            await wait_until(lambda: writer.seq > 2, "on its way")
            await asyncio.sleep(0)
        await wait_until(lambda: writer.seq in (3, 5), "all is there")
        reply = await watcher.come()
        assert reply["recovered"]
        assert watcher.following.records[-1]["from"] == 2
        assert watcher.following.text.startswith("one two.\n")
    assert (await watcher.end()).text == "one two.\nthree.\nfour.\n"
    await watcher.go()
    reply = await watcher.come()
    assert reply["recovered"]
    assert "publications" not in reply


async def test_only_the_owner_may_watch_or_who_has_a_token(gateway: Gateway, streams: Streams, watch: Watch) -> None:
    async with streams.open("mine", owner="ada") as writer:
        await writer.append("secret")
        eve = await Client.open(gateway.url)
        await eve.connect(gateway.token("eve"))
        assert (await eve.error(subscribe={"channel": "stream:mine"}))["code"] == 103
        assert (await eve.error(history={"channel": "stream:mine", "limit": 1}))["code"] == 103
        assert (await eve.error(publish={"channel": "stream:mine", "data": 1}))["code"] == 103
        token = gateway.token("eve", channel="stream:mine")
        reply = await eve.call(subscribe={"channel": "stream:mine", "token": token})
        assert reply["publications"][0]["data"]["text"] == "secret"
        await eve.aclose()
    async with streams.open("nobodys") as writer:
        anybody = await Client.open(gateway.url)
        await anybody.connect(gateway.token("ada"))
        assert (await anybody.error(subscribe={"channel": "stream:nobodys"}))["code"] == 103
        assert (await anybody.error(subscribe={"channel": "stream:never-there"}))["code"] == 410
        assert (await anybody.error(subscribe={"channel": "$stream:nobodys"}))["code"] == 103
        await anybody.aclose()


async def test_the_owner_cancels_and_nobody_else(gateway: Gateway, streams: Streams, watch: Watch) -> None:
    stopped: list[BaseException] = []

    async def produce() -> None:
        try:
            async with streams.open("stop", owner="ada") as writer:
                await writer.append("never ")
                await asyncio.Event().wait()  # a model that says nothing
        except StreamCancelled as error:
            stopped.append(error)

    producing = asyncio.create_task(produce())
    await wait_until(lambda: producing, "it runs")
    while await streams.status("stop") is None:
        await asyncio.sleep(0)
    watcher = await watch("stop")
    eve = await Client.open(gateway.url)
    await eve.connect(gateway.token("eve"))
    assert (await eve.error(rpc={"method": "stream.cancel", "data": {"stream": "stop"}}))["code"] == 103
    assert (await eve.error(rpc={"method": "stream.cancel", "data": {"stream": "nix"}}))["code"] == 410
    assert (await eve.error(rpc={"method": "stream.cancel", "data": {"generation": "x"}}))["code"] == 107
    await eve.aclose()
    assert watcher.client is not None
    for _ in range(2):  # idempotent
        answer = await watcher.client.call(rpc={"method": "stream.cancel", "data": {"stream": "stop"}})
        assert answer["data"] == {"status": "cancelled"}
    assert (await watcher.end()).status == "cancelled"
    await producing
    assert isinstance(stopped[0], StreamCancelled)


async def test_a_watcher_that_leaves_stops_nobody(streams: Streams, watch: Watch) -> None:
    async with streams.open("go-on", owner="ada") as writer:
        watcher = await watch("go-on")
        await writer.append("a")
        await watcher.go()
        await writer.append("b")
    assert (await streams.status("go-on")).status == "finished"  # type: ignore[union-attr]


async def test_generations_of_one_prompt_never_mix(streams: Streams, watch: Watch) -> None:
    async with streams.open("again", owner="ada", interrupt=False) as first:
        await first.append("first ")
        here = await watch("again")
        await here.until(lambda following: following.text == "first ", "the first generation")
        away = await watch("again")
        await away.go()
        async with streams.open("again", owner="ada", replace=True) as second:
            await second.append("second")
            await here.until(lambda _: here.told, "to be told")
            for watcher, comes in ((here, here.subscribe), (away, away.come)):
                assert watcher.look().text == "first "
                reply = await comes()
                assert not reply.get("recovered")
                (lost,) = watcher.following.lost
                assert (lost["generation"], lost["reason"]) == (first.generation, "superseded")
                await watcher.until(lambda following: following.text == "second", "the second generation")
                assert watcher.following.generation == second.generation
        with pytest.raises(StreamSuperseded):
            await first.append("more of the first")
    assert (await here.end()).text == (await away.end()).text == "second"


async def test_a_thousand_watchers_cost_one_subscription_per_worker(
    gateway: Gateway, streams: Streams, server: RedisServer
) -> None:
    text = "".join(f"{number}.\n" for number in range(500))
    clients: list[Client] = []
    token = gateway.token("ada")
    try:
        async with streams.open("crowd", owner="ada") as writer:
            await writer.append(text)
            await wait_until(lambda: writer.seq > 1, "the text is there")
            before = reads(gateway)
            for _ in range(20):
                opened = await asyncio.gather(*(Client.open(gateway.url) for _ in range(50)))
                clients.extend(opened)
                await asyncio.gather(*(client.connect(token) for client in opened))
            replies = await asyncio.gather(*(client.call(subscribe={"channel": "stream:crowd"}) for client in clients))
            assert {reply["publications"][0]["data"]["text"] for reply in replies} == {text}
            assert gateway.redis.pubsub_numsub("gw:pub:stream:crowd") == [(b"gw:pub:stream:crowd", 2)]
            assert reads(gateway) - before <= 20  # not one for each
            await writer.append("The end.")
        for client in clients:
            await client.wait(lambda client=client: len(client.data("stream:crowd")) == 2, "the last words")  # type: ignore[misc]
            assert [record["type"] for record in client.data("stream:crowd")] == ["delta", "finished"]
    finally:
        await asyncio.gather(*(client.aclose() for client in clients))


def reads(gateway: Gateway) -> int:
    """Times that somebody has read the parts of a stream."""
    found: Any = gateway.redis.info("commandstats")
    return int(found.get("cmdstat_lrange", {}).get("calls", 0))


@pytest.mark.parametrize(("lines", "size"), [(460, 16_000), (700, 11_000)])
async def test_a_slow_watcher_gets_a_snapshot_instead_of_a_queue(
    lines: int, size: int, gateway: Gateway, streams: Streams, watch: Watch
) -> None:
    """From the channel's log or, when that has been trimmed meanwhile, from the stored text."""
    async with streams.open(f"slow-{lines}", owner="ada", options=ROOMY) as writer:
        slow, quick, whole = await fall_behind(writer, lines, size, gateway, watch)
        await catch_up(slow, lambda following: following.text == whole)
    assert (await quick.end()).text == whole
    following = await slow.end()
    assert following.text == whole
    assert any(record["type"] == "snapshot" and record["from"] > 0 for record in following.records)
    assert len(following.records) < lines


async def test_a_slow_watcher_that_comes_back_after_the_end_gets_the_text_whole(
    gateway: Gateway, streams: Streams, watch: Watch
) -> None:
    async with streams.open("slow", owner="ada", options=ROOMY) as writer:
        slow, quick, whole = await fall_behind(writer, 460, 16_000, gateway, watch)
    assert (await quick.end()).text == whole
    await wait_until(lambda: gateway.redis.exists("gw:stream-text:slow"), "its text is stored in one piece")
    await catch_up(slow, lambda following: following.terminal)
    assert slow.following.text == whole
    assert len(slow.following.records) < 460


async def fall_behind(
    writer: StreamWriter, lines: int, size: int, gateway: Gateway, watch: Watch
) -> tuple[Watcher, Watcher, str]:
    """A watcher that has read the beginning of what is written, and sleeps; one that has it all; what is written."""
    line = "x" * size + "\n"
    behind = gateway.metric("gateway_subscribers_behind_total")
    slow, quick = await watch(writer.key), await watch(writer.key)
    assert slow.client is not None
    slow.client.fall_asleep()
    for number in range(lines):
        await writer.append(line)
        await quick.until(lambda following, n=number: len(following.text) > n * size, "the line")  # type: ignore[misc]
    assert gateway.metric("gateway_subscribers_behind_total") > behind
    return slow, quick, line * lines


async def catch_up(slow: Watcher, condition: Callable[[Following], object]) -> None:
    """Wake up, and come back when the gateway says so, until the condition is met."""
    assert slow.client is not None
    slow.client.wake_up()
    await slow.until(lambda following: condition(following) or slow.told, "what was missed, or to be told")
    if slow.told:
        await slow.subscribe()
    await slow.until(condition, "what was missed")


PRODUCER = """
import asyncio, sys
from gateway.streams import Options, Streams

async def main(url, key):
    async with Streams(url, options=Options(lease_s=1.0)) as streams, streams.open(key, owner="ada") as writer:
        if "silent" not in key:
            await writer.append("half a sen")
        while writer.seq < 2 and "silent" not in key:
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("key", ["killed", "killed-silent"])
async def test_a_producer_that_is_killed_fails_its_stream(
    key: str, gateway: Gateway, server: RedisServer, watch: Watch
) -> None:
    """Also one that is killed after it was accepted and before its first token."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRODUCER, server.url, key],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        while await asyncio.to_thread(process.stdout.readline) != "ready\n":
            assert process.poll() is None
        watcher = await watch(key)
        os.kill(process.pid, signal.SIGKILL)
        following = await watcher.end()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    assert following.terminal is not None
    assert (following.status, following.terminal["code"]) == ("failed", "producer_lost")
    assert following.text == ("" if "silent" in key else "half a sen")
    late = await watch(key)
    assert late.following.status == "failed"


async def test_what_has_expired_is_not_resumable(streams: Streams, gateway: Gateway, watch: Watch) -> None:
    options = OPTIONS._replace(text_ttl_s=1.0)
    async with streams.open("gone", owner="ada", options=options) as writer:
        await writer.append("soon gone")
        half = await watch("gone")
        await half.go()
    whole = await watch("gone")
    await whole.go()
    # A worker may have the text for a little longer than Redis: whoever comes then, gets it.
    while not half.following.lost:
        half.offset = half.following.seq = 1
        half.following.text, half.following.terminal = "", None
        reply = await half.come()
        assert bool(reply.get("recovered")) is not bool(half.following.lost)
    assert (await whole.come())["recovered"]
    assert not whole.following.lost
    assert half.following.lost[0] == {"type": "not_resumable", "generation": writer.generation, "reason": "expired"}
    while (await watch("gone")).following.kinds != ["not_resumable"]:
        await asyncio.sleep(0.05)
    eve = await Client.open(gateway.url)
    await eve.connect(gateway.token("eve"))
    assert (await eve.error(subscribe={"channel": "stream:gone"}))["code"] == 103
    await eve.aclose()


async def test_nobody_else_publishes_to_a_stream(gateway: Gateway, streams: Streams) -> None:
    for method, request in (("publish", {"channel": "stream:x"}), ("broadcast", {"channels": ["stream:x"]})):
        answer = gateway.call_api(method, data=1, **request).json()
        error = answer.get("error") or answer["result"]["responses"][0]["error"]
        assert error["code"] == 108
