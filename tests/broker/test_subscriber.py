"""The subscriber connection, on a real Redis: what it takes, how it comes back, what it does not believe."""

from __future__ import annotations

from redis.asyncio import Redis

from tests.support.redis_server import RedisServer
from tests.support.subscriber import SubscriberWorld
from tests.support.waiting import eventually, wait_until


async def kill_subscribers(redis: Redis) -> None:
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    # A subscriber without channels is a normal client.
    for client in await redis.client_list():
        if client["cmd"] in ("ping", "unsubscribe"):
            await redis.execute_command("CLIENT", "KILL", "ID", client["id"])


async def channels(redis: Redis) -> set[bytes]:
    return set(await redis.execute_command("PUBSUB", "CHANNELS"))


async def test_a_channel_is_confirmed_and_its_messages_come_in_order(connected: SubscriberWorld, redis: Redis) -> None:
    await connected.subscribed(b"a", b"b")
    for number in range(100):
        assert await redis.publish("ab"[number % 2], str(number)) == 1
    await connected.received(*((b"ab"[number % 2 : number % 2 + 1], b"%d" % number) for number in range(100)))


async def test_payloads_may_be_any_bytes_of_any_size(connected: SubscriberWorld, redis: Redis) -> None:
    await connected.subscribed(b"a")
    payloads = [b"", b"\r\n$5\r\n", bytes(range(256)), b"x" * 5_000_000]
    for payload in payloads:
        await redis.publish("a", payload)
    await connected.received(*((b"a", payload) for payload in payloads))


async def test_what_is_unsubscribed_gives_no_more_messages(connected: SubscriberWorld, redis: Redis) -> None:
    await connected.subscribed(b"a", b"b")
    connected.subscriber.unsubscribe(b"a")
    await wait_until(lambda: connected.subscriber.wanted == 1, "one channel is left")
    while b"a" in await channels(redis):
        pass
    assert await redis.publish("a", "1") == 0
    await redis.publish("b", "2")
    await connected.received((b"b", b"2"))


async def test_of_several_wishes_the_last_counts(connected: SubscriberWorld, redis: Redis) -> None:
    await connected.subscribed(b"stays")
    for _ in range(3):
        connected.subscriber.subscribe(b"on")
        connected.subscriber.unsubscribe(b"on")
        connected.subscriber.subscribe(b"off")
        connected.subscriber.unsubscribe(b"off")
        connected.subscriber.subscribe(b"on")
    await wait_until(lambda: b"on" in connected.confirmed, "the wish is confirmed")
    await connected.subscribed(b"later")
    assert await channels(redis) == {b"stays", b"on", b"later"}


async def test_channels_wanted_before_the_connection_are_subscribed_when_it_is_said_to_be_there(
    world: SubscriberWorld, redis: Redis
) -> None:
    assert not world.subscriber.subscribe(b"early")
    assert not world.subscriber.connected
    world.start()
    await world.happened("connected")
    assert await redis.publish("early", "1") == 1
    await world.received((b"early", b"1"))


async def test_a_connection_that_is_cut_is_reported_and_everything_is_subscribed_again(
    connected: SubscriberWorld, redis: Redis
) -> None:
    await connected.subscribed(b"a", b"b")
    await kill_subscribers(redis)
    await connected.happened("connected", "lost", "connected")
    assert await channels(redis) == {b"a", b"b"}
    assert connected.missed == [{b"a", b"b"}]
    await redis.publish("a", "1")
    await connected.received((b"a", b"1"))


async def test_three_thousand_channels_are_all_back_when_the_return_is_reported(
    connected: SubscriberWorld, redis: Redis
) -> None:
    names = [b"c%d" % number for number in range(3000)]
    await connected.subscribed(*names)
    assert await channels(redis) == set(names)
    await kill_subscribers(redis)
    await connected.happened("connected", "lost", "connected")
    assert await channels(redis) == set(names)


async def test_wishes_while_redis_is_away_hold_when_it_is_back(
    connected: SubscriberWorld, redis_server: RedisServer, redis: Redis
) -> None:
    await connected.subscribed(b"stays", b"goes")
    redis_server.kill()
    await connected.happened("connected", "lost")
    assert not connected.subscriber.subscribe(b"comes")
    connected.subscriber.unsubscribe(b"goes")
    redis_server.start()
    await connected.happened("connected", "lost", "connected")
    assert await channels(redis) == {b"stays", b"comes"}
    assert b"comes" not in connected.confirmed  # nobody waits for it


async def test_a_redis_that_is_silent_is_found_by_the_probe(redis_server: RedisServer) -> None:
    world = SubscriberWorld(redis_server.url, probe_interval_s=0.2)
    world.start()
    try:
        await world.happened("connected")
        await world.subscribed(b"a")
        redis_server.freeze()
        await world.happened("connected", "lost")
        assert world.reasons == ["no answer to PING within 0.2 s"]
        redis_server.thaw()
        await world.happened("connected", "lost", "connected")
    finally:
        redis_server.thaw()
        await world.stop()


async def test_a_redis_that_answers_is_not_taken_for_silent(redis_server: RedisServer, redis: Redis) -> None:
    world = SubscriberWorld(redis_server.url, probe_interval_s=0.5)
    world.start()
    try:
        await world.happened("connected")
        before = (await redis.info("commandstats"))["cmdstat_ping"]["calls"]

        async def probed() -> bool:
            return int((await redis.info("commandstats"))["cmdstat_ping"]["calls"]) >= before + 5

        await eventually(probed, "five probes")
        assert world.events == ["connected"]
    finally:
        await world.stop()


async def test_the_end_is_reported_and_the_connection_closed(connected: SubscriberWorld, redis: Redis) -> None:
    await connected.subscribed(b"a")
    await connected.stop()
    assert connected.events == ["connected", "lost"]
    while await channels(redis):
        pass
