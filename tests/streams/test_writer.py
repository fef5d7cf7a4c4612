"""Producers: what they give is in the stream once and in order, and they learn when nobody wants it."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis.asyncio import Redis

from gateway.errors import ConfigError
from gateway.streams import (
    Options,
    Record,
    StreamActive,
    StreamCancelled,
    StreamClosed,
    StreamDenied,
    StreamEnded,
    StreamInvalid,
    Streams,
    StreamSuperseded,
    StreamTruncated,
    StreamUnavailable,
)
from gateway.streams.delivery import cut
from gateway.streams.writer import is_boundary
from tests.streams.conftest import OPTIONS
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, wait_until


async def records(streams: Streams, key: str, **options: object) -> list[Record]:
    """Everything until the end."""
    return [record async for record in streams.read(key, **options)]  # type: ignore[arg-type]


async def whole(streams: Streams, key: str) -> tuple[str, str]:
    """Text and status of a stream that has ended."""
    first, last = await records(streams, key)
    return first.text, last.type


async def parts(redis: Redis, key: str) -> list[str]:
    found: list[bytes] = await redis.lrange(f"gw:stream-parts:{key}", 0, -1)  # type: ignore[misc]
    return [part.decode() for part in found]


# What is sent when.


async def test_the_first_text_and_every_line_and_sentence_go_at_once_other_text_waits_for_more(
    redis_server: RedisServer, redis: Redis
) -> None:
    patient = OPTIONS._replace(coalesce_s=10.0, coalesce_bytes=100, lease_s=60.0)
    async with Streams(redis_server.url, options=patient) as streams, streams.open("a") as writer:
        await writer.append("first")
        await wait_until(lambda: writer.seq == 2, "the first is there")
        for text in (" a", " b", " c.", " d", " e\n", " f", "g" * 100):
            await writer.append(text)
            if is_boundary(text) or len(text) == 100:
                before = writer.seq
                await wait_until(lambda before=before: writer.seq > before, "it is there")  # type: ignore[misc]
        assert await parts(redis, "a") == ["first", " a b c.", " d e\n", " f" + "g" * 100]


async def test_text_waits_no_longer_than_it_may(redis_server: RedisServer) -> None:
    async with Streams(redis_server.url, options=OPTIONS) as streams, streams.open("a") as writer:
        await writer.append("first")
        await wait_until(lambda: writer.seq == 2, "the first is there")
        await writer.append(" then")
        await wait_until(lambda: writer.seq == 3, "it is there, without a boundary")


@pytest.mark.parametrize("text", ["a.", "a\nb", "wait?", "“so.” ", "好。", "end…", "so:"])
def test_boundaries(text: str) -> None:
    assert is_boundary(text)
    assert not is_boundary("a. b")


def test_text_is_cut_between_characters() -> None:
    text = "aé🙂".encode()
    assert [cut(text, size).decode() for size in range(8)] == ["", "a", "a", "aé", "aé", "aé", "aé", "aé🙂"]


async def test_long_text_becomes_several_records_and_waits_for_redis(streams: Streams) -> None:
    text = "äöü" * 40_000
    async with streams.open("a") as writer:
        await writer.append(text)
    assert writer.seq > 10
    assert await whole(streams, "a") == (text, "finished")


# Nothing lost, nothing doubled.


async def test_lost_answers_and_cut_requests_double_nothing(far: Streams, streams: Streams, lossy: LossyProxy) -> None:
    expected = ""
    async with far.open("a") as writer:
        for number in range(60):
            if number % 7 == 3:
                lossy.answers_to_lose += 1
            if number % 11 == 5:
                lossy.cuts.append(random.Random(number).randrange(1, 300))
            expected += f"{number} is here.\n"
            await writer.append(f"{number} is here.\n")
            await asyncio.sleep(0)
            if number % 5 == 0:
                await wait_until(lambda: writer.seq > 1, "some of it is there")
    assert lossy.broken > 2
    assert await whole(streams, "a") == (expected, "finished")
    assert await whole(far, "a") == (expected, "finished")


async def test_a_redis_that_loses_everything_gets_it_again_under_the_same_generation(
    streams: Streams, redis_server: RedisServer
) -> None:
    expected = ""
    reading = asyncio.create_task(records(streams, "a"))
    async with streams.open("a", owner="ada") as writer:
        reading.cancel()
        following = asyncio.create_task(records(streams, "a"))
        for number in range(30):
            expected += f"{number}.\n"
            await writer.append(f"{number}.\n")
            await wait_until(lambda: writer.seq > 1, "the first is there")
            if number == 15:
                redis_server.kill()
            if number == 20:
                redis_server.start()
        await writer.finish(usage=1)
    found = await following
    assert "".join(record.text for record in found) == expected
    assert [record.seq for record in found] == sorted({record.seq for record in found})
    status = await streams.status("a")
    assert status is not None
    assert (status.generation, status.owner) == (writer.generation, "ada")


async def test_records_that_redis_has_lost_are_sent_again(streams: Streams, redis: Redis) -> None:
    """As one that comes back from an older copy of its data."""
    async with streams.open("a") as writer:
        for number in range(5):
            await writer.append(f"{number}.\n")
            await wait_until(lambda n=number: writer.seq == n + 2, "it is there")  # type: ignore[misc]
        await redis.ltrim("gw:stream-parts:a", 0, 1)  # type: ignore[misc]
        await redis.hset("gw:stream:a", mapping={"seq": 3, "bytes": 6, "length": 6})  # type: ignore[misc]
        await writer.append("5.\n")
    assert await whole(streams, "a") == ("0.\n1.\n2.\n3.\n4.\n5.\n", "finished")


async def test_while_redis_is_away_for_too_long_the_producer_learns_it(
    redis_server: RedisServer,
) -> None:
    impatient = OPTIONS._replace(retry_for_s=0.2)
    async with Streams(redis_server.url, options=impatient) as streams:
        with pytest.raises(StreamUnavailable):
            async with streams.open("a") as writer:
                redis_server.kill()
                while True:
                    await writer.append("x" * 1000)
                    await asyncio.sleep(0)
        with pytest.raises(StreamUnavailable):
            async with streams.open("b"):
                pass


# Ends.


async def test_leaving_finishes_an_exception_fails_and_says_nothing_of_itself(streams: Streams, redis: Redis) -> None:
    async with streams.open("good") as writer:
        await writer.append("x")
    assert await whole(streams, "good") == ("x", "finished")
    with pytest.raises(ZeroDivisionError):
        async with streams.open("bad") as writer:
            await writer.append("x")
            raise ZeroDivisionError("a secret")
    _, end = await records(streams, "bad")
    assert (end.type, end.code, end.message) == ("failed", "error", "the producer failed")
    task = asyncio.create_task(hold(streams, "stopped"))
    await eventually(lambda: streams.status("stopped"), "it is open")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    _, end = await records(streams, "stopped")
    assert (end.type, end.code) == ("failed", "producer_stopped")


async def hold(streams: Streams, key: str, **options: object) -> None:
    async with streams.open(key, **options) as writer:  # type: ignore[arg-type]
        await writer.append("x")
        await asyncio.Event().wait()


async def test_every_end_has_its_record_and_there_is_one_only(streams: Streams) -> None:
    async with streams.open("a") as writer:
        await writer.append("text")
        await writer.fail("model_refused", "the model did not want to")
        for call in (writer.finish, writer.cancel, lambda: writer.append("more")):
            with pytest.raises(StreamClosed):
                await call()
    _, end = await records(streams, "a")
    assert (end.type, end.code, end.message, end.length) == ("failed", "model_refused", "the model did not want to", 4)
    async with streams.open("a") as writer:
        await writer.truncate(usage={"tokens": 4096})
    _, end = await records(streams, "a")
    assert (end.type, end.reason, end.usage, end.length) == ("truncated", "length", {"tokens": 4096}, 0)
    async with streams.open("a") as writer:
        await writer.cancel("the user closed the page", usage=7)
    _, end = await records(streams, "a")
    assert (end.type, end.reason, end.usage) == ("cancelled", "the user closed the page", 7)
    async with streams.open("a") as writer:
        await writer.fail("model_refused", "no", usage={"tokens": 0})
    _, end = await records(streams, "a")
    assert (end.type, end.usage) == ("failed", {"tokens": 0})


async def test_what_ends_a_stream_must_be_json_and_the_stream_goes_on_until_it_is(streams: Streams) -> None:
    async with streams.open("a") as writer:
        with pytest.raises(StreamInvalid):
            await writer.finish(usage=object())
        await writer.append("still here")
    assert await whole(streams, "a") == ("still here", "finished")


async def test_a_text_that_reaches_its_size_is_truncated_between_characters(streams: Streams) -> None:
    with pytest.raises(StreamTruncated):
        async with streams.open("a", options=OPTIONS._replace(max_bytes=10)) as writer:
            await writer.append("ab")
            while True:
                await writer.append("ä" * 3)
                await asyncio.sleep(0)
    text, status = await whole(streams, "a")
    assert (text, status) == ("ab" + "ä" * 4, "truncated")


# Who else ends it.


async def test_a_cancel_before_the_first_token_while_it_runs_and_after_the_end(streams: Streams) -> None:
    assert await streams.cancel("a") is False  # nothing there
    with pytest.raises(StreamCancelled):
        async with streams.open("a", owner="ada", interrupt=False) as writer:
            with pytest.raises(StreamDenied):
                await streams.cancel("a", by="eve")
            assert await streams.cancel("a", "another generation") is False
            assert await streams.cancel("a", by="ada")
            assert await streams.cancel("a", writer.generation, by="ada")  # twice is once
            await wait_until(lambda: writer._error, "it has heard")
            await writer.append("too late")
    assert await whole(streams, "a") == ("", "cancelled")
    async with streams.open("a") as writer:
        await writer.append("done")
    assert await streams.cancel("a") is False
    assert await whole(streams, "a") == ("done", "finished")


async def test_a_cancel_interrupts_a_producer_that_waits_for_its_model(streams: Streams) -> None:
    producing = asyncio.create_task(hold(streams, "a"))
    await eventually(lambda: streams.status("a"), "it is open")
    assert await streams.cancel("a")
    with pytest.raises(StreamCancelled):
        await producing
    assert not producing.cancelled()


async def test_a_cancel_is_heard_with_the_next_sign_of_life_when_it_was_not_heard_at_once(
    redis_server: RedisServer, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Streams(redis_server.url, options=OPTIONS._replace(lease_s=0.3)) as deaf:
        monkeypatch.setattr(deaf, "_ended", lambda generation: None)
        producing = asyncio.create_task(hold(deaf, "a"))
        await eventually(lambda: streams.status("a"), "it is open")
        assert await streams.cancel("a")
        with pytest.raises(StreamCancelled):
            await producing


async def test_one_producer_at_a_time_unless_it_is_replaced_or_dead(streams: Streams, redis: Redis) -> None:
    async with streams.open("a", interrupt=False) as first:
        await first.append("first")
        with pytest.raises(StreamActive) as active:
            async with streams.open("a"):
                raise AssertionError
        assert active.value.generation == first.generation
        async with streams.open("a", replace=True) as second:
            await second.append("second")
            with pytest.raises(StreamSuperseded):
                await first.finish()
    assert first.generation < second.generation
    assert await whole(streams, "a") == ("second", "finished")
    (gone,) = await records(streams, "a", generation=first.generation)
    assert (gone.type, gone.reason) == ("not_resumable", "superseded")
    async with streams.open("a", interrupt=False) as dead:
        await redis.hset("gw:stream:a", "alive_until", "1")  # type: ignore[misc]
        async with streams.open("a") as next_one:
            await next_one.append("next")
        with pytest.raises(StreamEnded):
            await dead.finish()


async def test_a_stream_that_nobody_watches_is_given_up(streams: Streams) -> None:
    with pytest.raises(StreamCancelled):
        async with streams.open("a", abandon_after_s=0.5) as writer:
            await writer.append("hello?")
            await asyncio.Event().wait()
    _, end = await records(streams, "a")
    assert (end.type, end.reason) == ("cancelled", "nobody watches")


async def test_a_stream_that_is_watched_is_not_given_up(streams: Streams) -> None:
    async with streams.open("a", abandon_after_s=0.2) as writer:
        reading = asyncio.create_task(records(streams, "a"))
        for _ in range(10):
            await writer.append("still there\n")
            await asyncio.sleep(0.06)
    assert (await reading)[-1].type == "finished"


async def test_how_long_nobody_watched_is_known_to_a_third_of_the_grace_whatever_the_lease(
    redis_server: RedisServer, redis: Redis
) -> None:
    """A watcher that left just before the producer looks again has not been away for the whole grace period."""
    async with Streams(redis_server.url, options=OPTIONS._replace(lease_s=3600)) as streams:
        with pytest.raises(StreamCancelled):
            async with streams.open("a", abandon_after_s=0.3) as writer:
                await writer.append("hello?")
                await asyncio.Event().wait()
    with pytest.raises(StreamInvalid):
        Streams(redis_server.url).open("a", abandon_after_s=0)


# A producer that comes later than its stream.


async def test_a_registered_stream_waits_for_its_producer(streams: Streams, far: Streams) -> None:
    generation = await streams.register("a", "ada")
    reading = asyncio.create_task(records(streams, "a"))
    async with far.open("a", generation=generation) as writer:
        await writer.append("at last")
    found = await reading
    assert {record.generation for record in found if record.generation} == {generation}
    assert await whole(streams, "a") == ("at last", "finished")
    status = await streams.status("a")
    assert status is not None
    assert (status.generation, status.owner) == (generation, "ada")
    with pytest.raises(StreamEnded):
        async with far.open("a", generation=generation):
            raise AssertionError


async def test_a_cancel_before_the_producer_has_come_costs_it_nothing(streams: Streams, far: Streams) -> None:
    generation = await streams.register("a", "ada")
    assert await streams.cancel("a", by="ada")
    with pytest.raises(StreamCancelled):
        async with far.open("a", generation=generation):
            raise AssertionError("the model was asked")


async def test_a_job_that_is_delivered_twice_has_one_producer(streams: Streams, far: Streams) -> None:
    generation = await streams.register("a", "ada")
    async with streams.open("a", generation=generation) as writer:
        with pytest.raises(StreamActive):
            async with far.open("a", generation=generation):
                raise AssertionError
        await writer.append("once")
    assert await whole(streams, "a") == ("once", "finished")
    with pytest.raises(StreamEnded):
        async with far.open("a", generation="000000000000000000000000"):
            raise AssertionError


async def test_a_redis_that_loses_an_adopted_stream_gets_it_again_with_its_owner(
    streams: Streams, redis: Redis
) -> None:
    generation = await streams.register("a", "ada")
    async with streams.open("a", generation=generation) as writer:
        await writer.append("before\n")
        await wait_until(lambda: writer.seq == 2, "it is there")
        await redis.flushdb()
        await writer.append("after\n")
    status = await streams.status("a")
    assert status is not None
    assert (status.generation, status.owner) == (generation, "ada")
    assert await whole(streams, "a") == ("before\nafter\n", "finished")


async def test_a_producer_that_lives_keeps_its_lease(streams: Streams, redis: Redis) -> None:
    async with streams.open("a", options=OPTIONS._replace(lease_s=0.3)) as writer:
        first = int(await redis.hget("gw:stream:a", "alive_until"))  # type: ignore[misc,arg-type]

        async def renewed() -> bool:
            return int(await redis.hget("gw:stream:a", "alive_until")) > first + 300  # type: ignore[misc,arg-type]

        await eventually(renewed, "the lease is renewed")
        assert writer.seq == 1


# What cannot be.


@pytest.mark.parametrize("key", ["", "a b", "a{b}", "x" * 250])
async def test_keys_that_cannot_be(key: str, streams: Streams) -> None:
    with pytest.raises(StreamInvalid):
        streams.open(key)
    with pytest.raises(StreamInvalid):
        await streams.status(key)


async def test_texts_that_cannot_be(streams: Streams) -> None:
    async with streams.open("a") as writer:
        for text in (b"bytes", 1, None, "\ud800"):
            with pytest.raises(StreamInvalid):
                await writer.append(text)  # type: ignore[arg-type]
        await writer.append("")
        assert writer.seq == 1


@pytest.mark.parametrize(
    "options", [{"lease_s": 0}, {"max_bytes": 0}, {"max_bytes": 2**30}, {"text_ttl_s": float("nan")}]
)
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(StreamInvalid):
        Streams("redis://127.0.0.1", options=Options(**options))  # type: ignore[arg-type]


async def test_a_url_that_cannot_be_is_not_shown() -> None:
    with pytest.raises(ConfigError) as error:
        Streams("http://user:hunter2@host")
    assert "hunter2" not in str(error.value)


async def test_a_writer_outside_its_block_is_refused(streams: Streams) -> None:
    writer = streams.open("a")
    with pytest.raises(StreamClosed):
        await writer.append("x")
    async with writer:
        pass
    with pytest.raises(StreamClosed):
        await writer.__aenter__()


async def test_it_takes_a_client_that_is_there_already(redis: Redis) -> None:
    async with Streams(redis) as streams:
        async with streams.open("a") as writer:
            await writer.append("x")
        assert await whole(streams, "a") == ("x", "finished")
    assert await redis.ping()  # type: ignore[misc]
