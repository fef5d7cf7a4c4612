"""Deltas and numbers: whatever happens to subscribers, each can read what it gets, and reads the truth."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.config import Namespace
from gateway.hub import catchup, forms
from gateway.hub.forms import DEFAULT, DELTA, FRESH, NUMBERED
from gateway.metrics import names
from protocol.encodings import JSON, PROTOBUF, Encoding
from protocol.encodings.binary import as_document
from protocol.fossil import apply_delta
from protocol.replies import Publication
from tests.support.hub import FakeReceiver, HubWorld, turn

CHANNEL = "news"
WANTS_DELTA = DELTA | FRESH


class Reader(FakeReceiver):
    """A client that reads like an SDK: by channel or number, full or changed."""

    def __init__(self, encoding: Encoding, shape: int) -> None:
        super().__init__(encoding)
        self.shape = shape
        self.number = 0
        self.value = b""
        self.values: list[bytes] = []
        self.changed = 0

    def deliver(self, frames: bytes) -> bool:
        if self.slow:
            return True
        self.frames.append(frames)
        while frames:
            size, header = frames[1], 2
            if size == 126:
                size, header = int.from_bytes(frames[2:4]), 4
            payload, frames = frames[header : header + size], frames[header + size :]
            for reply in self.encoding.decode_replies(payload):
                assert reply.push is not None
                assert (reply.push.id, reply.push.channel) == (
                    (self.number, "") if self.shape & NUMBERED else (0, CHANNEL)
                )
                assert reply.push.pub is not None
                self._read(reply.push.pub)
        return False

    def _read(self, publication: Publication) -> None:
        assert isinstance(publication.data, Raw)
        data = self.encoding.shown(publication.data)
        if not self.shape & DELTA:
            assert not publication.delta
            self.value = data
        else:
            payload: bytes = json.loads(data).encode() if self.encoding is JSON else data
            self.changed += publication.delta
            self.value = apply_delta(self.value, payload) if publication.delta else payload
        self.values.append(self.value)


def document(number: int) -> bytes:
    fields = {f"field-{each}": f"ü{number if each == number % 20 else each}" for each in range(20)}
    return json.dumps({"n": number} | fields, ensure_ascii=False, separators=(",", ":")).encode()


class World:
    def __init__(self, **rules: Any) -> None:
        history = {"history_size": 1000, "history_ttl_s": 60} if rules.get("slow_consumer") == "catch_up" else {}
        self.rules = Namespace(delta=True, **(history | rules))
        self.hub = HubWorld(slice_deliveries=2, namespaces={"default": self.rules})
        self.members: list[Reader] = []
        self.published: list[bytes] = []

    async def join(self, encoding: Encoding, shape: int) -> Reader:
        return await self.enter(Reader(encoding, shape))

    async def enter(self, reader: Reader) -> Reader:
        (channel,), ready = self.hub.hub.open([(CHANNEL, "")])
        if ready is not None:
            self.hub.confirm(CHANNEL)
            await asyncio.wait((ready,), timeout=1)
        reader.number = channel.number
        self.hub.channels[CHANNEL] = channel
        self.members.append(reader)
        self.hub.hub.join(channel, reader, shape=reader.shape)
        return reader

    def leave(self, reader: Reader) -> None:
        self.members.remove(reader)
        self.hub.leave(CHANNEL, reader)

    def publish(self, data: bytes | None = None) -> None:
        data = document(len(self.published)) if data is None else data
        self.published.append(data)
        self.hub.publish(CHANNEL, self.hub.log.put(CHANNEL, data) if self.rules.has_history else data)

    async def settle(self) -> None:
        for member in self.members:
            member.slow = False
            self.hub.hub.drained(member)
        await turn(400)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "RETRY_S", 0.001)


FORMS = [
    (encoding, shape)
    for encoding in (JSON, PROTOBUF)
    for shape in (DEFAULT, NUMBERED, WANTS_DELTA, WANTS_DELTA | NUMBERED)
]
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 5)),
        st.tuples(st.just("join"), st.sampled_from(range(len(FORMS)))),
        st.tuples(st.sampled_from(["leave", "sleep", "wake", "again"]), st.integers(0, 9)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("policy", ["drop", "conflate", "catch_up"])
@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS)
def test_every_subscriber_reads_what_was_published(policy: str, operations: list[tuple[str, int]]) -> None:
    asyncio.run(run(policy, operations))


async def run(policy: str, operations: list[tuple[str, int]]) -> None:
    world = World(slow_consumer=policy)
    wrong: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(str(context)))
    joined: dict[Reader, int] = {}
    missed: set[Reader] = set()
    for operation, number in operations:
        member = world.members[number % len(world.members)] if world.members else None
        match operation:
            case "publish":
                for _ in range(number):
                    world.publish()
            case "join":
                joined[await world.join(*FORMS[number])] = len(world.published)
            case "leave" if member is not None:
                world.leave(member)
            case "again" if member is not None:
                world.leave(member)
                member.values.clear()
                joined[await world.enter(member)] = len(world.published)
            case "sleep" if member is not None:
                member.slow = True
                missed.add(member)
            case "wake" if member is not None:
                member.slow = False
                world.hub.hub.drained(member)
            case "turn":
                await turn(number)
    await world.settle()
    world.publish()
    await world.settle()
    assert wrong == []
    for member in world.members:
        places = [world.published.index(value) for value in member.values]
        assert places == sorted(set(places))
        assert member.value == world.published[-1]
        if policy == "catch_up" or member not in missed:
            # Perhaps with what was on its way when it came.
            assert member.values[-(len(world.published) - joined[member]) :] == world.published[joined[member] :]


async def test_who_wants_deltas_gets_one_full_publication_and_then_changes() -> None:
    world = World()
    text, binary = await world.join(JSON, WANTS_DELTA), await world.join(PROTOBUF, WANTS_DELTA)
    for _ in range(5):
        world.publish()
        await turn(20)
    for reader in (text, binary):
        assert reader.values == world.published
        assert reader.changed == 4
        assert len(reader.frames[0]) > 4 * len(reader.frames[1])


async def test_who_comes_back_while_a_pass_is_under_way_gets_the_next_publication_in_full() -> None:
    world = World()
    readers = [await world.join(JSON, WANTS_DELTA) for _ in range(8)]
    world.publish()
    await turn(2)
    last = next(reader for reader in reversed(readers) if not reader.values)
    world.leave(last)
    await world.enter(last)
    await turn(20)
    world.publish()
    await turn(20)
    assert last.values == world.published[1:]
    assert all(reader.values == world.published for reader in readers if reader is not last)


async def test_several_publications_of_one_pass_are_changes_of_each_other() -> None:
    world = World()
    reader = await world.join(JSON, WANTS_DELTA)
    for _ in range(5):
        world.publish()
    await turn(20)
    assert (len(reader.frames), reader.changed) == (1, 4)


async def test_what_is_shorter_in_full_comes_in_full() -> None:
    world = World()
    reader = await world.join(JSON, WANTS_DELTA)
    for data in (b'"one thing"', b'["another"]', document(1), b"null"):
        world.publish(data)
        await turn(20)
    assert reader.values == world.published
    assert reader.changed == 0


async def test_data_that_is_too_long_to_look_at_comes_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "DELTA_BYTES", len(document(1)) - 1)
    world = World()
    reader = await world.join(JSON, WANTS_DELTA)
    for _ in range(3):
        world.publish()
        await turn(20)
    assert (reader.values, reader.changed) == (world.published, 0)


async def test_binary_data_changes_too() -> None:
    world = World()
    text, binary = await world.join(JSON, WANTS_DELTA), await world.join(PROTOBUF, WANTS_DELTA)
    payloads = [bytes(range(256)) * 4 + bytes((number,)) * 8 for number in range(3)]
    for payload in payloads:
        world.publish(as_document(payload))
        await turn(20)
    assert binary.values == payloads
    assert binary.changed == 2
    assert [json.loads(value) for value in text.values] == [json.loads(as_document(each)) for each in payloads]


async def test_deltas_are_made_once_and_only_for_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = forms.create_delta
    monkeypatch.setattr(forms, "create_delta", lambda *pair: made.append(pair) or original(*pair))
    world = World()
    await world.join(JSON, DEFAULT)
    for _ in range(3):
        world.publish()
        await turn(20)
    assert not made
    assert world.hub.channels[CHANNEL].base is None
    for encoding, shape in FORMS * 3:
        await world.join(encoding, shape)
    for _ in range(3):
        world.publish()
        await turn(100)
    assert len(made) == 2
    assert all(member.values[-1] == world.published[-1] for member in world.members)


async def test_nothing_is_remembered_of_who_has_gone() -> None:
    world = World()
    for encoding, shape in FORMS:
        await world.join(encoding, shape)
    world.publish()
    await turn(50)
    channel = world.hub.channels[CHANNEL]
    for member in list(world.members):
        world.leave(member)
    assert not channel.shapes
    await world.join(JSON, DEFAULT)
    world.publish()
    await turn(50)
    assert channel.base is None


async def test_each_channel_has_its_own_number() -> None:
    world = HubWorld()
    (one, two), _ = world.hub.open([("one", ""), ("two", "")])
    assert one.number != two.number
    assert min(one.number, two.number) > 0


async def test_counts_are_those_of_publications_whatever_their_form() -> None:
    world = World()
    for encoding, shape in FORMS:
        await world.join(encoding, shape)
    world.publish()
    world.publish()
    await turn(50)
    assert world.hub.counters[names.DELIVERIES] == 2 * len(FORMS)
