"""What the hub makes of Redis' messages."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.metrics import names
from tests.support.hub import FakeReceiver, HubWorld, turn


async def test_a_publication_reaches_the_receivers_of_its_channel_and_nobody_else() -> None:
    world = HubWorld()
    here = world.join("news", FakeReceiver(), FakeReceiver())
    (elsewhere,) = world.join("other", FakeReceiver())
    world.publish("news", b"1")
    await turn(2)
    assert [each.received for each in here] == [[b"1"], [b"1"]]
    assert elsewhere.received == []
    assert world.counters[names.PUBLICATIONS] == 1


async def test_who_published_and_the_tags_of_an_envelope_reach_the_clients() -> None:
    world = HubWorld()
    (receiver,) = world.join("news", FakeReceiver())
    world.publish("news", b'@1 7 epoch {"info":{"user":"u","client":"c"},"tags":{"k":"v"}}\n[1]')
    await turn()
    assert receiver.frames[0].endswith(
        b'{"push":{"channel":"news","pub":{"data":[1],"info":{"user":"u","client":"c"},"offset":7,"tags":{"k":"v"}}}}'
    )


async def test_publications_of_a_channel_without_receivers_are_not_even_decoded() -> None:
    world = HubWorld()
    world.leave("lingering", *world.join("lingering", FakeReceiver()))
    world.publish("lingering", b"no json")
    world.publish("unknown", b"no json")
    assert world.counters[names.PUBLICATIONS] == 2
    assert world.counters[names.DROPPED_INVALID] == 0


@pytest.mark.parametrize(
    ("payload", "counter", "reason"),
    [
        (b"no json", names.DROPPED_INVALID, "undecodable"),
        (b'"%b"' % (b"x" * 2000), names.DROPPED_TOO_LARGE, "too large"),
    ],
    ids=["undecodable", "too large"],
)
async def test_what_cannot_be_delivered_is_counted_each_time_and_logged_once_a_minute_with_its_channel(
    payload: bytes, counter: int, reason: str
) -> None:
    with capture_logs() as lines:
        world = HubWorld(publication_bytes=1000)
        (receiver,) = world.join("news", FakeReceiver())
        for _ in range(5):
            world.publish("news", payload)
            world.clock.advance(10)
        assert len(lines) == 1
        world.clock.advance(10)
        world.publish("news", payload)
    assert [(line["event"], line["channel"], line["reason"], line["since_last_line"]) for line in lines] == [
        ("publication dropped", "news", reason, 0),
        ("publication dropped", "news", reason, 4),
    ]
    assert lines[0]["log_level"] == "warning"
    assert world.counters[counter] == 6
    await turn()
    assert receiver.frames == []


async def test_one_kind_of_drop_does_not_hide_the_other() -> None:
    with capture_logs() as lines:
        world = HubWorld(publication_bytes=10)
        world.join("news", FakeReceiver())
        world.publish("news", b"x")
        world.publish("news", b"x" * 11)
    assert [line["reason"] for line in lines] == ["undecodable", "too large"]


async def test_bad_publications_take_no_good_one_with_them() -> None:
    world = HubWorld()
    (receiver,) = world.join("news", FakeReceiver())
    for payload in (b"1", b"\xff", b"@9 what", b"2", b"x" * 5_000_000, b"3"):
        world.publish("news", payload)
    await turn()
    assert receiver.received == [b"1", b"2", b"3"]


@given(st.binary(max_size=40), st.sampled_from([b"gw:pub:news", b"gw:pub:", b"other", b"\xff"]))
def test_no_payload_on_no_channel_raises(payload: bytes, channel: bytes) -> None:
    async def run() -> None:
        world = HubWorld()
        world.join("news", FakeReceiver())
        world.hub.message_received(channel, payload)
        await turn()

    asyncio.run(run())


async def test_redis_coming_and_going_is_counted_and_passed_on() -> None:
    world = HubWorld()
    world.hub.subscriber_connected()
    assert world.counters[names.REDIS_CONNECTED] == 1
    world.hub.subscriber_lost("closed")
    assert world.counters[names.REDIS_CONNECTED] == 0
    assert world.counters[names.REDIS_LOST] == 1
    assert world.redis_states == [True, False]


async def test_an_answer_for_a_channel_that_is_forgotten_is_harmless() -> None:
    world = HubWorld()
    world.confirm("unknown")


async def test_channels_and_subscriptions_are_gauged() -> None:
    world = HubWorld()
    first, second = world.join("a", FakeReceiver(), FakeReceiver())
    world.join("b", first)
    assert (world.counters[names.CHANNELS], world.counters[names.SUBSCRIPTIONS]) == (2, 3)
    world.leave("a", first)
    world.leave("a", first)
    assert (world.counters[names.CHANNELS], world.counters[names.SUBSCRIPTIONS]) == (2, 2)
    world.leave("a", second)
    assert (world.counters[names.CHANNELS], world.counters[names.SUBSCRIPTIONS]) == (1, 1)
