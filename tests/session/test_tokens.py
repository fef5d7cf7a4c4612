"""Subscription tokens, and tokens that end: refresh, sub_refresh, expiry."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from tests.support.session import Client, SessionWorld

FORGED = jwt.encode({"sub": "42", "channel": "$x"}, "another-secret-of-at-least-32-bytes", algorithm="HS256")


async def subscribe(client: Client, channel: str, token: str) -> dict[str, Any]:
    return await client.ask(subscribe={"channel": channel, "token": token})


async def test_a_subscription_token_opens_a_private_channel() -> None:
    world = SessionWorld()
    client = await world.connected()
    assert (await subscribe(client, "$x", ""))["error"]["code"] == 103
    answer = await subscribe(client, "$x", world.token(channel="$x", data={"n": 1}, ttl_s=30))
    assert answer["subscribe"] == {"expires": True, "ttl": 30, "data": {"n": 1}}


@pytest.mark.parametrize(
    ("channel", "opens"),
    [("team:$x", True), ("$team:x", True), ("closed:x", False), ("by_token:x", True), ("@x", False)],
)
async def test_a_subscription_token_opens_what_its_namespace_lets_it_open(channel: str, opens: bool) -> None:
    world = SessionWorld(
        namespaces={"team": {}, "closed": {"subscribe_by": "nobody"}, "by_token": {"subscribe_by": "token"}}
    )
    client = await world.connected()
    answer = await subscribe(client, channel, world.token(channel=channel))
    assert ("subscribe" in answer) is opens
    assert opens or answer["error"]["code"] == 103


async def test_a_subscription_token_opens_no_list_of_users_to_others() -> None:
    world = SessionWorld()
    client = await world.connected("42")
    assert (await subscribe(client, "dialog#43", world.token(channel="dialog#43")))["error"]["code"] == 103
    assert "subscribe" in await subscribe(client, "$d#42,43", world.token(channel="$d#42,43"))


@pytest.mark.parametrize("token", ["garbage", FORGED])
async def test_an_invalid_subscription_token_is_answered_with_103(token: str) -> None:
    client = await SessionWorld().connected()
    assert (await subscribe(client, "$x", token))["error"]["code"] == 103
    assert client.closed is None


async def test_a_connection_token_is_no_subscription_token() -> None:
    world = SessionWorld()
    client = await world.connected()
    assert (await subscribe(client, "$x", world.token()))["error"]["code"] == 103


async def test_an_expired_subscription_token_is_answered_with_109() -> None:
    world = SessionWorld()
    client = await world.connected()
    assert (await subscribe(client, "$x", world.token(channel="$x", ttl_s=-60)))["error"]["code"] == 109


@pytest.mark.parametrize(
    ("user", "claims"),
    [("42", {"channel": "$other"}), ("43", {"channel": "$x"}), ("42", {"channel": "$x", "client": "somebody else"})],
    ids=["channel", "user", "client"],
)
async def test_a_subscription_token_of_another_channel_user_or_client_closes_with_3500(
    user: str, claims: dict[str, Any]
) -> None:
    world = SessionWorld()
    client = await world.connected("42")
    await client.frame({"id": 9, "subscribe": {"channel": "$x", "token": world.token(user, **claims)}})
    assert client.closed == 3500


async def test_a_subscription_token_may_be_for_this_client_alone() -> None:
    world = SessionWorld()
    client = await world.connected()
    token = world.token(channel="$x", client=client.session.client)
    assert "subscribe" in await subscribe(client, "$x", token)


async def test_anonymous_clients_may_have_subscription_tokens() -> None:
    world = SessionWorld(auth={"anonymous": True})
    client = world.client()
    await client.ask(connect={})
    assert "subscribe" in await subscribe(client, "$x", world.token("", channel="$x"))


# Refresh.


async def test_a_refreshed_connection_lives_on() -> None:
    world = SessionWorld()
    client = await world.connected(ttl_s=10)
    answer = await client.ask(refresh={"token": world.token(ttl_s=1000)})
    assert answer["refresh"]["ttl"] == 1000
    assert answer["refresh"]["expires"]
    assert answer["refresh"]["client"] == client.session.client
    world.clock.advance(500)
    client.session.check_expiry()
    assert client.closed is None


async def test_a_refresh_with_an_expired_token_is_109_and_with_an_invalid_one_3500() -> None:
    world = SessionWorld()
    client = await world.connected(ttl_s=10)
    assert (await client.ask(refresh={"token": world.token(ttl_s=-60)}))["error"]["code"] == 109
    await client.frame({"id": 9, "refresh": {"token": "garbage"}})
    assert client.closed == 3500


async def test_a_refresh_with_the_token_of_another_user_closes_with_3500() -> None:
    world = SessionWorld()
    client = await world.connected("42")
    await client.frame({"id": 9, "refresh": {"token": world.token("43")}})
    assert client.closed == 3500


async def test_a_refreshed_subscription_lives_on() -> None:
    world = SessionWorld()
    client = await world.connected()
    await subscribe(client, "$x", world.token(channel="$x", ttl_s=10))
    answer = await client.ask(sub_refresh={"channel": "$x", "token": world.token(channel="$x", ttl_s=1000)})
    assert answer["sub_refresh"] == {"expires": True, "ttl": 1000}
    world.clock.advance(500)
    client.session.check_expiry()
    assert client.news() == []
    assert "$x" in client.session.subscriptions


async def test_a_subscription_can_be_refreshed_with_its_own_token_only() -> None:
    world = SessionWorld()
    client = await world.connected()
    await subscribe(client, "$x", world.token(channel="$x", ttl_s=10))
    for token, code in ((world.token(channel="$x", ttl_s=-60), 109), ("garbage", 103), ("", 103)):
        answer = await client.ask(sub_refresh={"channel": "$x", "token": token})
        assert answer["error"]["code"] == code
    await client.frame({"id": 9, "sub_refresh": {"channel": "$x", "token": world.token(channel="$y")}})
    assert client.closed == 3500


# Expiry.


async def test_a_connection_that_was_not_refreshed_is_closed_with_3005_after_the_grace_time() -> None:
    world = SessionWorld(auth={"expired_close_delay_s": 25})
    client = await world.connected(ttl_s=10)
    world.clock.advance(34)
    client.session.check_expiry()
    assert client.closed is None
    world.clock.advance(2)
    client.session.check_expiry()
    assert client.closed == 3005


async def test_a_subscription_that_was_not_refreshed_ends_with_2501_after_the_grace_time_and_alone() -> None:
    world = SessionWorld(auth={"expired_close_delay_s": 25})
    client = await world.connected()
    await subscribe(client, "$x", world.token(channel="$x", ttl_s=10))
    await client.ask(subscribe={"channel": "news"})
    world.clock.advance(34)
    client.session.check_expiry()
    assert client.news() == []
    world.clock.advance(2)
    client.session.check_expiry()
    assert client.news() == [{"push": {"channel": "$x", "unsubscribe": {"code": 2501, "reason": "expired"}}}]
    await world.publish("$x", b"1")
    await world.publish("news", b"2")
    assert client.outlet.received == [b"2"]
    assert client.closed is None


async def test_what_never_expires_lives_on() -> None:
    world = SessionWorld()
    client = await world.connected()
    world.clock.advance(10**9)
    client.session.check_expiry()
    assert client.closed is None


async def test_a_time_to_live_within_the_leeway_is_at_least_one_second() -> None:
    world = SessionWorld(auth={"leeway_s": 5})
    result = await world.client().connect(ttl_s=-3)
    assert (result["expires"], result["ttl"]) == (True, 1)
