"""The script of token streams, driven by itself: what it refuses, what it keeps for how long, and a model of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.broker import CommandQueue, StreamStore
from gateway.broker.scripts import publish_function, source
from gateway.broker.streams import Life, Outcome
from gateway.errors import BrokerRefused

LIFE = Life(lease_ms=5_000, text_ms=60_000, remember_ms=600_000, max_bytes=200)
KEYS = ("gw:stream:a", "gw:stream-parts:a", "gw:stream-text:a", "gw:log:stream:a", "gw:meta:stream:a", "gw:streams")


@pytest.fixture
async def store(redis: Redis) -> AsyncIterator[StreamStore]:
    queue = CommandQueue(redis)
    running = asyncio.create_task(queue.run())
    yield StreamStore(queue, queue, prefix="gw")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def names(*outcomes: Outcome) -> list[str]:
    return [outcome.name for outcome in outcomes]


async def test_the_names_of_the_keys_are_those_of_the_contract(store: StreamStore, redis: Redis) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    await store.append("a", "g1", 2, [b"x"])
    assert {key.decode() for key in await redis.keys()} == set(KEYS) - {"gw:stream-text:a"}


async def test_what_is_sent_again_is_there_once(store: StreamStore, redis: Redis) -> None:
    assert names(*[await store.open("a", "g1", "ada", LIFE, "new") for _ in range(2)]) == ["ok", "ok"]
    assert [(await store.append("a", "g1", 2, [b"one", b"two"])).seq for _ in range(2)] == [3, 3]
    assert (await store.append("a", "g1", 3, [b"two", b"three"])).seq == 4  # overlaps with what is there
    assert (await store.append("a", "g1", 6, [b"five"])).name == "gap"
    assert await redis.lrange(KEYS[1], 0, -1) == [b"one", b"two", b"three"]  # type: ignore[misc]
    assert [entry[0] for entry in await redis.xrange(KEYS[3])] == [b"1-0", b"2-0", b"3-0", b"4-0"]
    first = await store.end("a", "g1", "finished", b'{"usage":3}', 4)
    again = await store.end("a", "g1", "finished", b'{"usage":3}', 4)
    assert (first.name, again.name, first.more) == ("ok", "ended", again.more)
    assert json.loads(first.more) == {"type": "finished", "generation": "g1", "seq": 5, "length": 11, "usage": 3}


async def test_a_generation_that_was_replaced_never_comes_back(store: StreamStore) -> None:
    """As when the answer to the first attempt was lost, and the producer asks again after somebody took its place."""
    await store.open("a", "g1", "ada", LIFE, "new")
    await store.open("a", "g2", "ada", LIFE, "replace")
    for mode in ("new", "replace", "restore", "adopt"):
        assert names(await store.open("a", "g1", "ada", LIFE, mode, "p1")) == ["superseded"]  # type: ignore[arg-type]
    await store.end("a", "g2", "finished", b"{}", 1)
    assert names(await store.open("a", "g1", "ada", LIFE, "new")) == ["superseded"]
    assert names(await store.append("a", "g1", 2, [b"x"]), await store.end("a", "g1", "failed", b"{}", 1)) == [
        "superseded",
        "superseded",
    ]
    for number in range(3, 30):
        await store.open("a", f"g{number}", "ada", LIFE, "replace")
    assert names(await store.open("a", "g28", "ada", LIFE, "replace")) == ["superseded"]


async def test_a_registered_stream_is_adopted_by_one_producer(store: StreamStore) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    adopted = [await store.open("a", "g1", "", LIFE._replace(max_bytes=3), "adopt", "p1") for _ in range(2)]
    assert [(each.name, each.more) for each in adopted] == [("ok", b"ada")] * 2
    assert names(await store.open("a", "g1", "", LIFE, "adopt", "p2")) == ["active"]
    assert names(await store.append("a", "g1", 2, [b"1234"])) == ["full"]  # the producer's own limit
    await store.append("a", "g1", 2, [b"123"])
    assert names(await store.open("a", "g1", "", LIFE, "adopt", "p1")) == ["active"]
    assert names(await store.open("b", "g1", "", LIFE, "adopt", "p1")) == ["gone"]
    with pytest.raises(BrokerRefused, match="id of a producer"):
        await store.open("a", "g1", "", LIFE, "adopt", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [(b"", "1 to 65536"), (b"x" * 65_537, "1 to 65536"), (b"\xff", "UTF-8"), (b"\xed\xa0\x80", "UTF-8")],
)
async def test_no_part_of_a_call_is_taken_when_one_text_cannot_be(store: StreamStore, text: bytes, why: str) -> None:
    await store.open("a", "g1", "ada", LIFE._replace(max_bytes=1_000_000), "new")
    with pytest.raises(BrokerRefused, match=why):
        await store.append("a", "g1", 2, [b"fine", text])
    stored = await store.read("a")
    assert stored is not None
    assert (stored.seq, stored.size, stored.parts) == (1, 0, [])


async def test_text_beyond_the_size_of_the_stream_is_refused_as_a_whole(store: StreamStore) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    await store.append("a", "g1", 2, [b"x" * 150])
    full = await store.append("a", "g1", 3, [b"y" * 50, b"z"])
    assert (full.name, full.seq, full.more) == ("full", 2, b"50")
    assert names(await store.append("a", "g1", 3, [b"y" * 50])) == ["ok"]


@pytest.mark.parametrize("extra", ["[]", "1", "{", '{"seq":1}', '{"length":0}', '{"a":"\xff"}', "x" * 65_537])
async def test_an_end_that_is_no_object_or_contradicts_the_stream_is_refused(store: StreamStore, extra: str) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    with pytest.raises(BrokerRefused):
        await store.end("a", "g1", "finished", extra.encode("latin-1"), 1)
    assert names(await store.renew("a", "g1")) == ["ok"]


async def test_active_and_finished_streams_live_for_different_times(store: StreamStore, redis: Redis) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    await store.append("a", "g1", 2, [b"x"])
    state, parts, text = KEYS[:3]
    active = await redis.pttl(parts)
    assert LIFE.text_ms < active <= LIFE.text_ms + LIFE.lease_ms  # as long after the last sign of life
    assert LIFE.text_ms < await redis.pttl(state) <= LIFE.remember_ms
    await redis.pexpire(parts, 1000)
    await store.renew("a", "g1")
    assert LIFE.text_ms < await redis.pttl(parts)  # each sign of life counts
    await store.end("a", "g1", "finished", b"{}", 2)
    assert LIFE.lease_ms < await redis.pttl(parts) <= LIFE.text_ms
    left = await redis.pttl(parts)
    await store.compact("a", "g1", b"\0x")
    assert LIFE.lease_ms < await redis.pttl(text) <= left  # compacting prolongs nothing
    assert await redis.exists(parts) == 0
    assert LIFE.text_ms < await redis.pttl(state) <= LIFE.remember_ms


async def test_only_what_has_ended_is_compacted_and_only_once(store: StreamStore) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    await store.append("a", "g1", 2, [b"x"])
    assert names(await store.compact("a", "g1", b"\0early")) == ["active"]
    await store.end("a", "g1", "finished", b"{}", 2)
    await store.compact("a", "g1", b"\0x")
    await store.compact("a", "g1", b"\0another")
    stored = await store.read("a")
    assert stored is not None
    assert (stored.compacted, stored.parts, stored.expired) == (b"\0x", [], False)


async def test_the_position_of_the_channel_is_that_of_the_stream_whoever_else_wrote_there(
    store: StreamStore, redis: Redis
) -> None:
    await store.open("a", "g1", "ada", LIFE, "new")
    await redis.hset(KEYS[4], mapping={"epoch": "else", "offset": 77})  # type: ignore[misc]
    await redis.xadd(KEYS[3], {"m": "-", "d": "not ours"}, id="77-0")
    await store.append("a", "g1", 2, [b"x"])
    assert [entry for entry, _ in await redis.xrange(KEYS[3])] == [b"2-0"]
    assert await redis.hmget(KEYS[4], "epoch", "offset") == [b"g1", b"2"]  # type: ignore[misc]


async def test_other_languages_call_it_as_a_function(store: StreamStore, redis: Redis) -> None:
    if int((await redis.info("server"))["redis_version"].split(".")[0]) < 7:
        pytest.skip("Redis before 7 has no functions")
    await redis.function_load(publish_function(), replace=True)

    async def call(*arguments: Any) -> Any:
        operation, *rest = arguments
        tail = (len(KEYS), *KEYS, operation, "a", "gw:pub:stream:a", "g1", *rest)
        by_function = await redis.fcall("gw_stream", *tail)
        if operation == "renew":
            assert await redis.eval(source("stream"), *tail) == by_function
        return by_function

    assert await call("open", "ada", *LIFE, "new") == [b"ok", b"active", 1, b""]
    assert await call("append", 2, "Hello ", "wörld") == [b"ok", b"active", 3, 0]
    assert await call("append", 2, "Hello ", "wörld") == [b"ok", b"active", 3, 0]
    assert await call("renew") == [b"ok", b"active", 3, 0]
    with pytest.raises(ResponseError, match="finished, failed, cancelled or truncated"):
        await call("end", "done", "{}", 3)
    ended = await call("end", "finished", '{"usage":{"tokens":2}}', 3)
    assert ended[:3] == [b"ok", b"finished", 4]
    stored = await store.read("a")
    assert stored is not None
    assert (b"".join(stored.parts).decode(), stored.length, stored.owner) == ("Hello wörld", 11, "ada")


# A model: two producers of one key, whose calls are repeated, come late, and meet a Redis that loses what it has.


class Model:
    """The stream as it must be."""

    def __init__(self) -> None:
        self.generation = ""
        self.status = ""
        self.texts: list[bytes] = []
        self.past: set[str] = set()

    @property
    def seq(self) -> int:
        return 1 + len(self.texts) + (self.status not in ("", "active"))


calls = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, 3), st.sampled_from(["new", "once", "replace", "restore"])),
        st.tuples(st.just("append"), st.integers(1, 3), st.integers(-2, 2), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(1, 3), st.sampled_from(["finished", "failed", "truncated"])),
        st.tuples(st.just("cancel"), st.integers(1, 3), st.sampled_from(["", "ada", "eve"])),
        st.tuples(st.just("lose"), st.integers(1, 3)),
        st.tuples(st.just("renew"), st.integers(1, 3)),
        st.tuples(st.just("compact"), st.integers(1, 3)),
        st.tuples(st.just("forget"), st.just(0)),
    ),
    max_size=25,
)


@given(calls=calls)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_stream_is_what_a_list_would_be(store: StreamStore, redis: Redis, calls: list[Any]) -> None:
    await redis.flushdb()
    model = Model()
    for operation, number, *rest in calls:
        generation = f"g{number}"
        if operation == "forget":
            await redis.flushdb()
            model = Model()
            continue
        outcome = await run(store, model, operation, generation, *rest)
        assert outcome.name == expected(model, operation, generation, *rest), (operation, generation, rest)
        stored = await store.read("a")
        assert (stored is None) == (model.generation == "")
        if stored is not None:
            assert (stored.generation, stored.status, stored.seq) == (model.generation, model.status, model.seq)
            assert (stored.compacted or b"\0" + b"".join(stored.parts)) == b"\0" + b"".join(model.texts)
            assert stored.size == sum(map(len, model.texts))
            assert await redis.hmget(KEYS[4], "epoch", "offset") == [generation_of(model), b"%d" % model.seq]  # type: ignore[misc]
            log = [int(entry.split(b"-")[0]) for entry, _ in await redis.xrange(KEYS[3])]
            assert log == list(range(model.seq - len(log) + 1, model.seq + 1))


def generation_of(model: Model) -> bytes:
    return model.generation.encode()


async def run(store: StreamStore, model: Model, operation: str, generation: str, *rest: Any) -> Outcome:
    if operation == "open":
        return await store.open("a", generation, "ada", LIFE, rest[0])
    if operation == "append":
        first = first_of(model, rest[0])
        return await store.append("a", generation, first, texts_of(generation, first, rest[1]))
    if operation == "end":
        return await store.end("a", generation, rest[0], b"{}", 1 + len(model.texts))
    if operation == "cancel":
        return await store.cancel("a", generation, rest[0])
    if operation == "compact":
        return await store.compact("a", generation, b"\0" + b"".join(model.texts))
    return await (store.lose if operation == "lose" else store.renew)("a", generation)


def first_of(model: Model, shift: int) -> int:
    """Number of the first record that is sent: behind what is there, or what is there already, or too far ahead."""
    return max(2, 2 + len(model.texts) + shift)


def texts_of(generation: str, first: int, count: int) -> list[bytes]:
    return [f"{generation}.{number} ".encode() for number in range(first, first + count)]


def expected(model: Model, operation: str, generation: str, *rest: Any) -> str:
    """What the answer must be; changes the model as the call must change the stream."""
    if operation == "open":
        return opened(model, generation, rest[0])
    if not model.generation:
        return "gone"
    if generation != model.generation:
        return "superseded"
    if operation == "cancel" and rest[0] == "eve":
        return "denied"
    if operation == "compact":
        return "active" if model.status == "active" else "ok"
    if model.status != "active":
        return "ended"
    if operation == "append":
        first = first_of(model, rest[0])
        if first > 2 + len(model.texts):
            return "gap"
        fresh = texts_of(generation, first, rest[1])[2 + len(model.texts) - first :]
        if sum(map(len, model.texts + fresh)) > LIFE.max_bytes:
            return "full"
        model.texts += fresh
    elif operation == "lose":
        return "active"  # its lease is not over
    elif operation == "end":
        model.status = rest[0]
    elif operation == "cancel":
        model.status = "cancelled"
    return "ok"


def opened(model: Model, generation: str, mode: str) -> str:
    if generation == model.generation:
        return "ok" if model.status == "active" else "ended"
    if generation in model.past or (model.generation and mode == "restore"):
        return "superseded"
    if model.status == "active" and mode != "replace":
        return "active"
    if model.status == "finished" and mode == "once":
        return "ended"
    if model.generation:
        model.past.add(model.generation)
    model.generation, model.status, model.texts = generation, "active", []
    return "ok"
