"""`subscribe` and `unsubscribe`: limits, waiting for Redis, and clients that go meanwhile."""

from __future__ import annotations

from gateway.metrics import names
from gateway.session.commands import WAITING
from tests.support.session import Client, SessionWorld


def subscribes(first: int, *channels: str) -> list[dict[str, object]]:
    return [{"id": first + index, "subscribe": {"channel": channel}} for index, channel in enumerate(channels)]


def codes(answers: list[dict[str, dict[str, int]]]) -> list[int | None]:
    return [answer.get("error", {}).get("code") for answer in answers]


async def test_a_subscriber_gets_publications_until_it_leaves() -> None:
    world = SessionWorld()
    client = await world.connected()
    assert await client.ask(subscribe={"channel": "news"}) == {"id": 2, "subscribe": {}}
    await world.publish("news", b"1")
    assert await client.ask(unsubscribe={"channel": "news"}) == {"id": 3, "unsubscribe": {}}
    await world.publish("news", b"2")
    assert client.outlet.received == [b"1"]


async def test_unsubscribing_from_what_one_is_not_subscribed_to_is_no_error() -> None:
    client = await SessionWorld().connected()
    assert await client.ask(unsubscribe={"channel": "news"}) == {"id": 2, "unsubscribe": {}}


async def test_a_second_subscribe_is_an_error_in_one_frame_and_in_two() -> None:
    client = await SessionWorld().connected()
    assert codes(await client.frame(*subscribes(2, "a", "a"))) == [105, None]
    assert codes(await client.frame(*subscribes(4, "a"))) == [105]


async def test_who_has_left_may_come_back() -> None:
    world = SessionWorld()
    client = await world.connected()
    for _ in range(3):
        assert "subscribe" in await client.ask(subscribe={"channel": "news"})
        assert "unsubscribe" in await client.ask(unsubscribe={"channel": "news"})
    assert world.hub.redis.asked("subscribe").count("news") == 1


async def test_128_channels_and_not_one_more() -> None:
    client = await SessionWorld().connected()
    answers = await client.frame(*subscribes(2, *(f"c{number}" for number in range(130))))
    assert sorted(codes(answers), key=str) == [106, 106] + [None] * 128
    assert {answer["id"] for answer in answers if "error" in answer} == {130, 131}
    assert (await client.ask(subscribe={"channel": "more"}))["error"]["code"] == 106
    assert "unsubscribe" in await client.ask(unsubscribe={"channel": "c0"})
    assert "subscribe" in await client.ask(subscribe={"channel": "more"})


async def test_a_bad_subscribe_in_a_batch_does_not_touch_the_others() -> None:
    client = await SessionWorld().connected()
    answers = await client.frame(*subscribes(2, "a", "#43", "{x}", "unknown:x", "$private", "b"))
    assert {answer["id"]: answer.get("error", {}).get("code") for answer in answers} == {
        2: None,
        3: 103,
        4: 107,
        5: 102,
        6: 103,
        7: None,
    }


# Waiting for Redis.


async def waiting_client(world: SessionWorld, *channels: str) -> Client:
    """A client whose subscribes wait for Redis."""
    client = await world.connected()
    world.confirms = False
    assert await client.frame(*subscribes(2, *channels)) == []
    return client


async def test_a_subscription_is_confirmed_only_when_redis_has_confirmed_the_channel() -> None:
    world = SessionWorld()
    client = await waiting_client(world, "news")
    world.answer_redis()
    await world.settle()
    assert client.news() == [{"id": 2, "subscribe": {}}]


async def test_a_batch_of_subscribes_waits_once_and_is_answered_in_one_write() -> None:
    world = SessionWorld()
    client = await waiting_client(world, *(f"c{number}" for number in range(100)))
    world.answer_redis()
    await world.settle()
    assert len(client.outlet.writes[-1]) == 100
    assert len(client.news()) == 100


async def test_commands_behind_one_that_waits_are_carried_out_after_it() -> None:
    world = SessionWorld()
    client = await waiting_client(world, "news")
    assert await client.frame({"id": 3, "ping": {}}, {"id": 4, "unsubscribe": {"channel": "news"}}) == []
    world.answer_redis()
    await world.settle()
    assert [answer["id"] for answer in client.news()] == [2, 3, 4]


async def test_when_too_many_commands_wait_behind_one_the_socket_is_not_read_meanwhile() -> None:
    world = SessionWorld()
    client = await waiting_client(world, "news")
    await client.frame(*({"id": number, "ping": {}} for number in range(3, 3 + WAITING)))
    assert client.outlet.paused == 0
    await client.frame({"id": 100, "ping": {}})
    assert client.outlet.paused == 1
    resumed = client.outlet.resumed
    world.answer_redis()
    await world.settle()
    assert len(client.news()) == 2 + WAITING
    assert client.outlet.resumed == resumed + 1


async def test_nothing_published_overtakes_the_answer_to_subscribe() -> None:
    world = SessionWorld()
    client = await waiting_client(world, "news")
    answered_before: list[int] = []
    deliver = client.outlet.deliver

    def note(frames: bytes) -> bool:
        answered_before.append(len(client.outlet.writes))
        return deliver(frames)

    client.outlet.deliver = note  # type: ignore[method-assign]
    writes = len(client.outlet.writes)
    world.answer_redis()
    world.hub.publish("news", b"1")
    await world.settle()
    world.hub.publish("news", b"2")
    await world.settle()
    assert client.outlet.received == [b"2"]
    assert answered_before == [writes + 1]


async def test_a_client_that_goes_while_it_waits_leaves_nothing_behind_in_the_hub() -> None:
    world = SessionWorld()
    client = await waiting_client(world, "a", "b")
    client.session.closed("connection lost")
    world.answer_redis()
    await world.settle()
    assert client.news() == []
    assert world.counters[names.SUBSCRIPTIONS] == 0
    world.hub.sweep(after_s=6)
    world.hub.sweep(after_s=6)
    assert sorted(world.hub.redis.asked("unsubscribe")) == ["#42", "@all", "a", "b"]
    assert world.hub.hub._channels == {}


async def test_a_client_that_goes_while_its_connect_waits_leaves_nothing_behind() -> None:
    world = SessionWorld()
    world.confirms = False
    client = world.client()
    await client.frame({"id": 1, "connect": {"token": world.token()}})
    client.session.closed("connection lost")
    world.answer_redis()
    await world.settle()
    assert not client.outlet.is_connected
    assert world.counters[names.CLIENTS] == 0
    world.hub.sweep(after_s=6)
    assert world.hub.hub._channels == {}


async def test_a_channel_that_redis_refuses_is_a_temporary_error_for_its_subscriber_alone() -> None:
    world = SessionWorld()
    world.refuses = {"bad"}
    client = await world.connected()
    answers = await client.frame(*subscribes(2, "good", "bad"))
    assert {answer["id"]: answer.get("error") for answer in answers} == {
        2: None,
        3: {"code": 100, "message": "internal server error", "temporary": True},
    }
    assert list(client.session.subscriptions) == ["@all", "#42", "good"]


async def test_while_redis_is_away_subscribing_works_and_waits_for_nothing() -> None:
    world = SessionWorld()
    client = await world.connected()
    world.confirms, world.hub.redis.away = False, True
    assert await client.ask(subscribe={"channel": "news"}) == {"id": 2, "subscribe": {}}
    assert client.outlet.paused == 0


async def test_who_waits_when_redis_goes_away_is_answered() -> None:
    world = SessionWorld()
    client = await waiting_client(world, "news")
    world.hub.hub.subscriber_lost("closed")
    await world.settle()
    assert client.news() == [{"id": 2, "subscribe": {}}]


async def test_a_subscription_that_redis_refuses_afterwards_ends_with_2500_so_that_the_sdk_tries_again() -> None:
    world = SessionWorld()
    client = await world.connected()
    await client.ask(subscribe={"channel": "news"})
    client.session.subscription_lost("news")
    client.session.subscription_lost("unknown")
    assert client.news() == [
        {"push": {"channel": "news", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    ]
    assert "news" not in client.session.subscriptions
