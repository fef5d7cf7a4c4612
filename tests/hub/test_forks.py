"""A log that contradicts what was delivered, as when a replica that lacks the last writes becomes the master."""

from __future__ import annotations

import pytest

from gateway.config import Namespace
from gateway.errors import BrokerUnavailable
from gateway.hub.feed import Feed
from gateway.metrics import names
from tests.support.hub import FakeReceiver, HubWorld, turn

KEPT = {"kept": Namespace(history_size=10, history_ttl_s=60, recover=True)}
CHANNEL = "kept:a"


class Fork:
    """One receiver that has had the publications 1, 2 and 3."""

    def __init__(self) -> None:
        self.world = HubWorld(namespaces=KEPT)
        self.receiver = FakeReceiver()
        self.world.log.put(CHANNEL, b"0")

    async def begin(self) -> None:
        self.world.join(CHANNEL, self.receiver, namespace="kept")
        await turn(3)
        for number in (1, 2, 3):
            self.publish(number)
        await turn(5)
        assert self.receiver.received == [b"1", b"2", b"3"]

    @property
    def feed(self) -> Feed:
        feed = self.world.channels[CHANNEL].feed
        assert feed is not None
        return feed

    def publish(self, number: int) -> None:
        self.world.publish(CHANNEL, self.world.log.put(CHANNEL, b"%d" % number))

    async def come_back(self) -> None:
        self.world.hub.subscriber_lost("killed")
        self.world.hub.subscriber_connected()
        await turn(10)


@pytest.fixture
async def fork() -> Fork:
    fork = Fork()
    await fork.begin()
    return fork


async def test_a_log_that_ends_before_what_was_delivered_gets_a_new_epoch_and_subscribers_are_told(fork: Fork) -> None:
    before = fork.world.log.epoch(CHANNEL)
    fork.world.log.fail_over(CHANNEL, lacks=2)
    await fork.come_back()
    assert fork.receiver.lost == [CHANNEL]
    assert fork.world.log.epoch(CHANNEL) != before
    assert (fork.feed.epoch, fork.feed.top) == (fork.world.log.epoch(CHANNEL), 2)


async def test_a_log_that_has_gone_on_with_other_publications_is_found_out(fork: Fork) -> None:
    before = fork.world.log.epoch(CHANNEL)
    fork.world.log.fail_over(CHANNEL, lacks=2)
    for number in (22, 23, 24):
        fork.world.log.put(CHANNEL, b"%d" % number)
    await fork.come_back()
    assert fork.receiver.lost == [CHANNEL]
    assert fork.world.log.epoch(CHANNEL) != before


async def test_a_log_that_has_the_same_again_goes_on(fork: Fork) -> None:
    """Publishers have sent again what they had no answer to, in order: nothing is missing, nothing comes twice."""
    before = fork.world.log.epoch(CHANNEL)
    fork.world.log.fail_over(CHANNEL, lacks=2)
    for number in (2, 3, 4):
        fork.world.log.put(CHANNEL, b"%d" % number)
    await fork.come_back()
    assert fork.receiver.received == [b"1", b"2", b"3", b"4"]
    assert not fork.receiver.lost
    assert fork.world.log.epoch(CHANNEL) == before


async def test_a_log_that_was_trimmed_past_what_was_delivered_is_no_contradiction(fork: Fork) -> None:
    fork.world.log.trim(CHANNEL, 0)
    await fork.come_back()
    assert not fork.receiver.lost
    fork.publish(4)
    await turn(5)
    assert fork.receiver.received[-1] == b"4"


async def test_a_fork_is_told_also_when_redis_does_not_answer_at_first(
    fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.hub.feed.RETRY_S", (0.0, 0.0))
    refused = []
    forked = fork.world.log.forked

    def away_at_first(channel: str, epoch: str) -> object:
        if not refused:
            refused.append(channel)
            raise BrokerUnavailable("away")
        return forked(channel, epoch)

    monkeypatch.setattr(fork.world.log, "forked", away_at_first)
    fork.world.log.fail_over(CHANNEL, lacks=1)
    await fork.come_back()
    assert fork.receiver.lost == [CHANNEL]


async def test_a_token_stream_keeps_its_epoch(fork: Fork) -> None:
    """It is the generation of the stream. Subscribers are told all the same: they get a snapshot then."""
    world, receiver = fork.world, FakeReceiver()
    world.log.put("stream:s", b"0")
    world.join("stream:s", receiver, namespace="kept")
    await turn(3)
    world.publish("stream:s", world.log.put("stream:s", b"1"))
    await turn(3)
    before = world.log.epoch("stream:s")
    world.log.fail_over("stream:s", lacks=1)
    await fork.come_back()
    assert world.log.epoch("stream:s") == before
    assert receiver.lost == ["stream:s"]


async def test_channels_without_history_that_were_not_heard_are_counted(fork: Fork) -> None:
    fork.world.join("news", FakeReceiver())
    fork.world.join("sports", FakeReceiver())
    assert fork.world.counters[names.INTERRUPTED] == 0
    fork.world.hub.publications_missed([b"gw:pub:" + each for each in (b"news", b"sports", b"kept:a", b"gone")], 1.5)
    assert fork.world.counters[names.INTERRUPTED] == 2
