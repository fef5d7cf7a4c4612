"""What the hub times: passes from arrival to the last write, and one publication of a client at a time."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.hub import fanout
from gateway.hub.sample import GIVEN_UP_S, PublishSample
from gateway.metrics import names
from gateway.metrics.histograms import Histogram, recent, slow_operations
from protocol.redis_contract import canary_channel
from protocol.replies import ClientInfo, Publication
from tests.support.hub import FakeReceiver, HubWorld, delivered, turn


class Stopwatch:
    """`time.perf_counter` as the test sets it."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stopwatch = Stopwatch()
    monkeypatch.setattr(fanout, "perf_counter", stopwatch)
    return stopwatch


def broadcasts(world: HubWorld) -> Histogram:
    return recent([world.latencies], names.OP_BROADCAST, world.clock.monotonic())


async def test_a_broadcast_is_timed_once_a_pass_from_its_first_publication(stopwatch: Stopwatch) -> None:
    world = HubWorld(slice_deliveries=2)
    world.join("news", *[FakeReceiver() for _ in range(6)])
    world.publish("news", b"1")
    stopwatch.now += 1
    world.publish("news", b"2")
    await turn()
    assert broadcasts(world).count == 0, "there are receivers to come"
    stopwatch.now += 2
    await delivered(world, 12)
    await turn()
    assert broadcasts(world).count == 1
    assert broadcasts(world).longest_ns == 3 * 10**9
    (slow,) = slow_operations(world.latencies)
    assert (slow.operation, slow.channel, slow.user) == (names.OP_BROADCAST, "news", "")


async def test_what_arrives_during_a_pass_is_timed_from_its_own_arrival(stopwatch: Stopwatch) -> None:
    world = HubWorld(slice_deliveries=2)
    world.join("news", *[FakeReceiver() for _ in range(6)])
    world.publish("news", b"1")
    await turn()
    stopwatch.now += 5
    world.publish("news", b"2")
    stopwatch.now += 1
    await delivered(world, 12)
    await turn()
    found = broadcasts(world)
    assert found.count == 2
    assert (found.shortest_ns, found.longest_ns) == (1 * 10**9, 6 * 10**9)


async def test_a_pass_without_publications_is_not_timed() -> None:
    world = HubWorld()
    world.join("news", FakeReceiver())
    world.publish("news", b"1")
    world.hub._fanout.discard(world.channels["news"])
    await turn(3)
    assert broadcasts(world).count == 0


def from_client(client: str) -> Publication:
    return Publication(data=Raw(b"1"), info=ClientInfo(user="u", client=client))


def test_one_publication_is_followed_at_a_time_until_it_comes_or_is_given_up() -> None:
    sample = PublishSample()
    sample.begin("news", "a", 1.0)
    sample.begin("other", "b", 2.0)
    assert (sample.channel, sample.begun_s) == ("news", 1.0)
    assert not sample.ends_with("news", from_client("b"))
    assert not sample.ends_with("other", from_client("a"))
    assert not sample.ends_with("news", Publication(data=Raw(b"1")))
    assert sample.ends_with("news", from_client("a"))
    assert not sample.ends_with("news", from_client("a"))
    sample.begin("other", "b", 3.0)
    sample.begin("third", "c", 3.0 + GIVEN_UP_S + 0.1)
    assert sample.channel == "third"


def test_a_channel_of_the_worker_goes_to_its_handler_and_is_no_publication() -> None:
    world = HubWorld()
    heard: list[bytes] = []
    world.hub.handle(canary_channel("gw", "me"), heard.append)
    world.hub.message_received(canary_channel("gw", "me"), b"1")
    world.hub.message_received(canary_channel("gw", "you"), b"2")
    assert heard == [b"1"]
    assert world.counters[names.PUBLICATIONS] == 1, "only what nobody handles counts"
