"""Readers in a backend: the text so far, then what comes, then the end; or that there is nothing to go on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.streams import Record, StreamInvalid, Streams
from tests.streams.conftest import OPTIONS
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


async def records(streams: Streams, key: str, **options: object) -> list[Record]:
    return [record async for record in streams.read(key, **options)]  # type: ignore[arg-type]


def text_of(found: list[Record]) -> str:
    """The text that a reader has from these records; fails where something is missing or doubled."""
    text, seq = "", 0
    for record in found:
        if record.type == "snapshot":
            text = record.text if record.since == 0 else text + record.text
            assert record.since in (0, seq)
        elif record.type == "delta":
            assert record.seq == seq + 1
            text += record.text
        seq = record.seq
    assert found[-1].length == len(text)
    return text


@pytest.fixture
async def other(redis_server: RedisServer) -> AsyncIterator[Streams]:
    """Another process, as far as Redis can tell."""
    async with Streams(redis_server.url, options=OPTIONS) as streams:
        yield streams


async def test_readers_of_any_process_at_any_time_have_the_same_text(streams: Streams, other: Streams) -> None:
    reading: list[asyncio.Task[list[Record]]] = []
    async with streams.open("a") as writer:
        for number in range(20):
            reading.append(asyncio.create_task(records(other if number % 2 else streams, "a")))
            await writer.append(f"{number} is a number.\n")
            await wait_until(lambda n=number: writer.seq == n + 2, "it is there")  # type: ignore[misc]
    expected = "".join(f"{number} is a number.\n" for number in range(20))
    for found in await asyncio.gather(*reading):
        assert text_of(found) == expected
        assert [record.type for record in found].count("snapshot") == 1
        assert found[-1].type == "finished"
    assert [record.type for record in await records(other, "a")] == ["snapshot", "finished"]


async def test_who_knows_a_part_gets_the_rest(streams: Streams) -> None:
    async with streams.open("a") as writer:
        for number in range(4):
            await writer.append(f"{number}.\n")
            await wait_until(lambda n=number: writer.seq == n + 2, "it is there")  # type: ignore[misc]
        reader = streams.read("a", from_seq=3)
        first = await anext(reader)
        assert (first.type, first.since, first.seq, first.text) == ("snapshot", 3, 5, "2.\n3.\n")
        await reader.aclose()  # type: ignore[attr-defined]
    (end,) = (await records(streams, "a", from_seq=5))[1:]
    assert end.type == "finished"
    compacted = await records(streams, "a", from_seq=3)
    assert (compacted[0].since, compacted[0].text) == (0, "0.\n1.\n2.\n3.\n")
    ahead = await records(streams, "a", from_seq=99)
    assert (ahead[0].since, ahead[0].text) == (0, "0.\n1.\n2.\n3.\n")


async def test_what_is_not_there_is_not_resumable(streams: Streams, redis: Redis) -> None:
    (never,) = await records(streams, "a")
    assert (never.type, never.reason) == ("not_resumable", "unknown")
    async with streams.open("a") as writer:
        await writer.append("x")
    (other,) = await records(streams, "a", generation="another")
    assert (other.type, other.generation, other.reason) == ("not_resumable", "another", "superseded")
    await redis.delete("gw:stream-text:a")
    (gone,) = await records(streams, "a")
    assert (gone.type, gone.generation, gone.reason) == ("not_resumable", writer.generation, "expired")
    with pytest.raises(StreamInvalid):
        await records(streams, "")


async def test_a_reader_goes_on_after_redis_was_away(streams: Streams, redis_server: RedisServer) -> None:
    async with streams.open("a") as writer:
        reading = asyncio.create_task(records(streams, "a"))
        await writer.append("before\n")
        await wait_until(lambda: writer.seq == 2, "it is there")
        redis_server.freeze()
        await writer.append("meanwhile\n")
        redis_server.thaw()
        await wait_until(lambda: writer.seq == 3, "it is there")
    assert text_of(await reading) == "before\nmeanwhile\n"


async def test_a_stream_that_is_lost_for_good_ends_its_readers(streams: Streams, redis: Redis) -> None:
    async with streams.open("a", options=OPTIONS._replace(lease_s=3600)) as writer:
        await writer.append("x")
        await wait_until(lambda: writer.seq == 2, "it is there")
        reader = streams.read("a")
        assert (await anext(reader)).text == "x"
        await redis.flushdb()
        last = await anext(reader)
        assert (last.type, last.generation, last.reason) == ("not_resumable", writer.generation, "expired")
        await writer.cancel()


async def test_readers_that_leave_leave_nothing(streams: Streams, redis: Redis) -> None:
    async with streams.open("a") as writer:
        await writer.append("x")
        for _ in range(3):
            reader = streams.read("a")
            await anext(reader)
            await reader.aclose()  # type: ignore[attr-defined]
        while await redis.pubsub_numsub("gw:pub:stream:a") != [(b"gw:pub:stream:a", 0)]:
            await asyncio.sleep(0.005)
