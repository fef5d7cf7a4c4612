"""The worker's subscriptions in Redis follow the channels that somebody is here for."""

from __future__ import annotations

import pytest

from gateway.errors import BrokerRefused
from gateway.hub.channel import Held
from protocol.redis_contract import publish_channel
from tests.support.hub import FakeReceiver, HubWorld, turn

REFUSED = BrokerRefused("NOPERM")


def refuse(world: HubWorld, channel: str) -> None:
    world.hub.subscription_confirmed(publish_channel("gw", channel), REFUSED)


async def test_many_who_join_one_channel_subscribe_once_in_redis() -> None:
    world = HubWorld()
    world.join("news", *(FakeReceiver() for _ in range(100)))
    assert world.redis.calls == [("subscribe", b"gw:pub:news")]


async def test_who_opens_a_channel_waits_for_redis() -> None:
    world = HubWorld()
    _, ready = world.hub.open([("news", "")])
    assert ready is not None
    assert not ready.done()
    world.confirm("news")
    assert ready.done()


async def test_who_comes_meanwhile_waits_for_the_same_answer() -> None:
    world = HubWorld()
    _, first = world.hub.open([("news", "")])
    _, second = world.hub.open([("news", "")])
    assert first is not None
    assert second is not None
    world.confirm("news")
    assert first.done()
    assert second.done()
    assert world.redis.asked("subscribe") == ["news"]


async def test_who_opens_several_channels_waits_once_for_all_of_them() -> None:
    world = HubWorld()
    world.join("held", FakeReceiver())
    channels, ready = world.hub.open([("a", ""), ("held", ""), ("b", "")])
    assert ready is not None
    assert [channel.name for channel in channels] == ["a", "held", "b"]
    world.confirm("b")
    assert not ready.done()
    world.confirm("a")
    assert ready.done()


async def test_who_opens_a_channel_that_is_held_does_not_wait() -> None:
    world = HubWorld()
    world.join("news", FakeReceiver())
    _, ready = world.hub.open([("news", "")])
    assert ready is None


async def test_a_refusal_rolls_back_and_reaches_everyone_who_waited() -> None:
    world = HubWorld()
    (mine,), first = world.hub.open([("secret", "")])
    (_,), second = world.hub.open([("secret", "")])
    refuse(world, "secret")
    assert first is not None
    assert second is not None
    assert first.done()
    assert second.done()
    assert mine.held is Held.NO
    world.hub.cancel(mine)
    world.hub.cancel(mine)
    (again,), ready = world.hub.open([("secret", "")])
    assert again is not mine
    assert ready is not None
    assert world.redis.asked("subscribe") == ["secret", "secret"]
    world.hub.cancel(again)


async def test_a_refusal_of_one_channel_does_not_touch_the_others_of_the_same_wait() -> None:
    world = HubWorld()
    (good, bad), ready = world.hub.open([("good", ""), ("bad", "")])
    refuse(world, "bad")
    world.confirm("good")
    assert ready is not None
    assert ready.done()
    assert (good.held, bad.held) == (Held.YES, Held.NO)


async def test_a_channel_lingers_after_the_last_has_left_and_is_given_up_then() -> None:
    world = HubWorld(linger_s=5)
    world.leave("news", *world.join("news", FakeReceiver()))
    world.sweep(after_s=4.9)
    assert world.redis.asked("unsubscribe") == []
    world.sweep(after_s=0.1)
    assert world.redis.asked("unsubscribe") == ["news"]
    world.sweep(after_s=100)
    assert world.redis.asked("unsubscribe") == ["news"]


async def test_who_comes_back_while_a_channel_lingers_neither_waits_nor_troubles_redis() -> None:
    world = HubWorld(linger_s=5)
    world.leave("news", *world.join("news", FakeReceiver()))
    world.sweep(after_s=4.9)
    (receiver,) = world.join("news", FakeReceiver())
    world.sweep(after_s=100)
    assert world.redis.calls == [("subscribe", b"gw:pub:news")]
    world.publish("news", b"1")
    await turn()
    assert receiver.received == [b"1"]


async def test_who_comes_back_after_that_subscribes_anew() -> None:
    world = HubWorld(linger_s=5)
    world.leave("news", *world.join("news", FakeReceiver()))
    world.sweep(after_s=5)
    world.join("news", FakeReceiver())
    assert [verb for verb, _ in world.redis.calls] == ["subscribe", "unsubscribe", "subscribe"]


async def test_the_linger_time_starts_anew_each_time_that_the_last_one_leaves() -> None:
    world = HubWorld(linger_s=5)
    for _ in range(5):
        world.leave("news", *world.join("news", FakeReceiver()))
        world.sweep(after_s=4)
    assert world.redis.asked("unsubscribe") == []
    world.sweep(after_s=1)
    assert world.redis.asked("unsubscribe") == ["news"]


async def test_a_channel_that_comes_and_goes_does_not_hold_up_others_that_linger() -> None:
    world = HubWorld(linger_s=5)
    world.leave("busy", *world.join("busy", FakeReceiver()))
    world.leave("quiet", *world.join("quiet", FakeReceiver()))
    world.sweep(after_s=4)
    world.leave("busy", *world.join("busy", FakeReceiver()))
    world.sweep(after_s=1)
    assert world.redis.asked("unsubscribe") == ["quiet"]


async def test_who_goes_while_redis_is_asked_leaves_a_channel_that_is_given_up_once_redis_has_answered() -> None:
    world = HubWorld(linger_s=5)
    (channel,), _ = world.hub.open([("news", "")])
    world.hub.cancel(channel)
    world.sweep(after_s=6)
    assert world.redis.asked("unsubscribe") == []
    world.confirm("news")
    world.sweep(after_s=6)
    assert world.redis.asked("unsubscribe") == ["news"]


async def test_who_goes_while_redis_refuses_leaves_nothing() -> None:
    world = HubWorld(linger_s=5)
    (channel,), _ = world.hub.open([("news", "")])
    world.hub.cancel(channel)
    refuse(world, "news")
    world.sweep(after_s=60)
    assert world.redis.asked("unsubscribe") == []
    (again,), _ = world.hub.open([("news", "")])
    assert again is not channel


async def test_while_redis_is_away_nobody_waits_and_the_channel_is_wanted_all_the_same() -> None:
    world = HubWorld()
    world.redis.away = True
    (channel,), ready = world.hub.open([("news", "")])
    assert ready is None
    assert channel.held is Held.YES
    assert world.redis.asked("subscribe") == ["news"]


async def test_who_waits_when_redis_goes_away_need_not_wait_longer() -> None:
    world = HubWorld()
    (channel,), ready = world.hub.open([("a", "")])
    world.hub.subscriber_lost("closed")
    assert ready is not None
    assert ready.done()
    assert channel.held is Held.YES


async def test_a_channel_that_redis_refuses_on_its_return_is_taken_from_its_receivers() -> None:
    world = HubWorld()
    world.redis.away = True
    here, other = world.join("secret", FakeReceiver()), world.join("news", FakeReceiver())
    refuse(world, "secret")
    assert [each.lost for each in here + other] == [["secret"], []]


@pytest.mark.parametrize("away", [False, True])
async def test_lingering_ends_also_while_redis_is_away(away: bool) -> None:
    world = HubWorld(linger_s=5)
    members = world.join("news", FakeReceiver())
    world.redis.away = away
    world.leave("news", *members)
    world.sweep(after_s=5)
    assert world.redis.asked("unsubscribe") == ["news"]
