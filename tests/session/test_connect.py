"""`connect`: who may, what the answer says, what the server subscribes the client to."""

from __future__ import annotations

import base64

import jwt
import pytest

from gateway import __version__
from gateway.metrics import names
from tests.support.session import SECRET, SessionWorld


async def test_the_answer_says_what_sdks_need() -> None:
    world = SessionWorld()
    client = world.client()
    result = await client.connect("42")
    assert result == {
        "client": client.session.client,
        "version": f"nexus-gateway {__version__}",
        "subs": {"@all": {}, "#42": {}},
        "ping": 25,
        "pong": True,
        "node": "node",
        "time": int(world.clock.time() * 1000),
    }
    assert client.outlet.is_connected
    assert world.counters[names.CLIENTS] == 1
    assert world.context.users.sessions("42") == (client.session,)


async def test_a_client_with_native_pings_is_asked_for_no_pongs() -> None:
    client = SessionWorld().client()
    client.outlet.native_ping = True
    result = await client.connect()
    assert "ping" not in result
    assert "pong" not in result


async def test_a_short_ping_interval_is_told_in_whole_seconds_and_never_as_none() -> None:
    world = SessionWorld(keepalive={"ping_interval_s": 0.3, "pong_timeout_s": 0.2})
    assert (await world.client().connect())["ping"] == 1


async def test_a_token_s_end_is_told() -> None:
    result = await SessionWorld().client().connect(ttl_s=59.5)
    assert (result["expires"], result["ttl"]) == (True, 60)


async def test_expire_at_overrides_exp_for_the_life_of_the_connection() -> None:
    world = SessionWorld()
    result = await world.client().connect(ttl_s=10, expire_at=world.clock.time() + 100)
    assert result["ttl"] == 100
    assert "expires" not in await world.client().connect(ttl_s=10, expire_at=0)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "garbage",
        "a.b.c",
        jwt.encode({"sub": "42"}, "another-secret-of-at-least-32-bytes", algorithm="HS256"),
        jwt.encode({"sub": "42"}, None, algorithm="none"),
        jwt.encode({"sub": "42", "channel": "news"}, SECRET, algorithm="HS256"),
        jwt.encode({"iat": 1}, SECRET, algorithm="HS256"),
        jwt.encode({"sub": "42", "channels": ["a b"]}, SECRET, algorithm="HS256"),
        jwt.encode({"sub": "42", "channels": ["unknown:x"]}, SECRET, algorithm="HS256"),
    ],
    ids=[
        "none",
        "garbage",
        "three parts",
        "forged",
        "alg none",
        "for a channel",
        "no user",
        "bad channel",
        "namespace",
    ],
)
async def test_an_invalid_token_closes_with_3500(token: str) -> None:
    client = SessionWorld().client()
    assert await client.frame({"id": 1, "connect": {"token": token}}) == []
    assert client.closed == 3500
    assert client.world.counters[names.SUBSCRIPTIONS] == 0


async def test_an_expired_token_is_answered_with_109_and_the_connection_may_try_again() -> None:
    world = SessionWorld()
    client = world.client()
    answer = await client.ask(connect={"token": world.token(ttl_s=-60)})
    assert answer["error"] == {"code": 109, "message": "token expired"}
    assert client.closed is None
    await client.connect()


async def test_subscribes_behind_an_expired_connect_are_neither_answered_nor_a_fault() -> None:
    """SDKs send them in the frame of `connect`; 3501 would keep them away for good."""
    world = SessionWorld()
    client = world.client()
    subscribes = [{"id": number, "subscribe": {"channel": f"c{number}"}} for number in (2, 3)]
    answers = await client.frame({"id": 1, "connect": {"token": world.token(ttl_s=-60)}}, *subscribes)
    assert [answer["id"] for answer in answers] == [1]
    assert client.closed is None
    answers = await client.frame({"id": 4, "connect": {"token": world.token()}}, *subscribes)
    assert [answer["id"] for answer in answers] == [4, 2, 3]


async def test_anonymous_clients_connect_where_that_is_configured() -> None:
    world = SessionWorld(auth={"anonymous": True})
    client = world.client()
    answer = await client.ask(connect={})
    assert answer["connect"]["subs"] == {"@all": {}}
    assert client.session.user == ""
    assert world.counters[names.USERS] == 0


async def test_anonymous_does_not_mean_that_bad_tokens_are_good() -> None:
    client = SessionWorld(auth={"anonymous": True}).client()
    await client.frame({"id": 1, "connect": {"token": "garbage"}})
    assert client.closed == 3500


async def test_insecure_takes_the_user_from_a_token_whoever_signed_it() -> None:
    world = SessionWorld(auth={"insecure": True})
    forged = jwt.encode({"sub": "7"}, "another-secret-of-at-least-32-bytes", algorithm="HS256")
    for token, user in ((forged, "7"), ("", ""), ("garbage", ""), ("a.!.c", ""), ("a.e30.c", "")):
        client = world.client()
        await client.ask(connect={"token": token})
        assert client.session.user == user


async def test_the_server_subscribes_to_everyone_s_the_user_s_the_configured_and_the_granted_channels() -> None:
    world = SessionWorld(namespaces={"team": {"server_side": ["team:lobby"]}, "default": {"server_side": ["status"]}})
    client = world.client()
    data = base64.b64encode(b'{"n": 1}').decode()
    result = await client.connect(channels=["news", "@all"], subs={"$vip": {"data": {"x": 1}}, "b": {"b64data": data}})
    assert result["subs"] == {
        "@all": {},
        "#42": {},
        "team:lobby": {},
        "status": {},
        "news": {},
        "$vip": {"data": {"x": 1}},
        "b": {"data": {"n": 1}},
    }
    for channel in result["subs"]:
        await world.publish(channel, b"1")
    assert client.outlet.received == [b"1"] * 7


async def test_what_the_server_subscribed_to_the_client_can_neither_make_nor_end_nor_is_it_counted() -> None:
    world = SessionWorld(limits={"channels_per_client": 1})
    client = world.client()
    await client.connect(channels=["news"])
    assert (await client.ask(subscribe={"channel": "news"}))["error"]["code"] == 105
    assert (await client.ask(unsubscribe={"channel": "news"}))["error"]["code"] == 103
    assert (await client.ask(sub_refresh={"channel": "news", "token": "x"}))["error"]["code"] == 103
    assert "subscribe" in await client.ask(subscribe={"channel": "own"})


@pytest.mark.parametrize("user", ["a,b", "caf\u00e9", "x" * 300])
async def test_a_user_whose_id_fits_into_no_channel_connects_without_a_personal_one(user: str) -> None:
    result = await SessionWorld().client().connect(user)
    assert result["subs"] == {"@all": {}}


async def test_a_short_limit_for_the_names_that_clients_write_keeps_no_user_away() -> None:
    result = await SessionWorld(limits={"channel_length": 16}).client().connect("x" * 16)
    assert "#" + "x" * 16 in result["subs"]


async def test_every_tab_of_a_user_gets_what_is_sent_to_the_user() -> None:
    world = SessionWorld()
    tabs = [await world.connected("42") for _ in range(3)]
    other = await world.connected("43")
    await world.publish("#42", b'"hi"')
    assert [tab.outlet.received for tab in tabs] == [[b'"hi"']] * 3
    assert other.outlet.received == []
    assert len({tab.session.client for tab in tabs}) == 3
    assert world.counters[names.USERS] == 2


async def test_redis_refusing_a_server_side_channel_refuses_the_connect_for_now() -> None:
    world = SessionWorld()
    world.refuses = {"@all"}
    client = world.client()
    answer = await client.ask(connect={"token": world.token()})
    assert answer["error"]["code"] == 100
    assert answer["error"]["temporary"]
    world.refuses.clear()
    assert "@all" in (await client.connect())["subs"]


async def test_losing_a_server_side_channel_closes_with_3010_so_that_the_sdk_connects_anew() -> None:
    world = SessionWorld()
    world.hub.redis.away = True
    client = await world.connected()
    world.hub.redis.away = False
    client.session.subscription_lost("#42")
    assert client.closed == 3010
    assert world.counters[names.SUBSCRIPTIONS] == 0


async def test_the_end_leaves_nothing_behind() -> None:
    world = SessionWorld()
    client = await world.connected()
    await client.ask(subscribe={"channel": "news"})
    client.session.closed("connection lost")
    client.session.closed("again")
    assert [world.counters[each] for each in (names.SUBSCRIPTIONS, names.CHANNELS, names.CLIENTS, names.USERS)] == [
        0
    ] * 4
    assert world.context.users.sessions("42") == ()
    await world.publish("news", b"1")
    assert client.outlet.frames == []
