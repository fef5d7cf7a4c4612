"""Who is subscribed to what: by the token, by the configuration, by a subscription token, by a user list."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient
from tests.support.gateway import SECRET, Gateway, encode_token, serving


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = {
        "namespaces": {
            "default": {"server_side": ["everybody"]},
            "locked": {"subscribe_by": "token"},
            "closed": {"subscribe_by": "nobody"},
            "board": {"subscribe_by": "nobody", "server_side": ["board:notices"]},
        }
    }
    with serving(config) as gateway:
        yield gateway


async def test_channels_of_the_token_are_subscribed_on_connect(gateway: Gateway, open_client: OpenClient) -> None:
    claims = {
        "sub": "ada",
        "channels": ["team", "closed:vip"],
        "subs": {"offers": {"data": {"welcome": "back"}}, "team": {}},
    }
    client = await open_client(token=encode_token(claims))
    subs = client.connected["subs"]
    assert {"team", "closed:vip", "offers"} <= subs.keys()
    assert subs["offers"] == {"data": {"welcome": "back"}}
    for channel in ("team", "closed:vip", "offers"):
        assert gateway.publish(channel, channel) == 1
        assert await client.wait_data(channel) == [channel]


async def test_channels_of_the_configuration_are_subscribed_for_everyone(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = [await open_client("ada"), await open_client("bob")]
    gateway.publish("everybody", 1)
    gateway.publish("board:notices", 2)
    for client in clients:
        assert {"@all", "everybody", "board:notices"} <= client.connected["subs"].keys()
        assert await client.wait_data("everybody") == [1]
        assert await client.wait_data("board:notices") == [2]


async def test_a_server_side_subscription_can_be_neither_made_nor_ended_by_the_client(open_client: OpenClient) -> None:
    client = await open_client()
    assert (await client.error(subscribe={"channel": "everybody"}))["code"] == 105
    assert (await client.error(unsubscribe={"channel": "everybody"}))["code"] == 103
    assert (await client.error(subscribe={"channel": "closed:vip"}))["code"] == 103
    assert (await client.error(subscribe={"channel": "@other"}))["code"] == 103


@pytest.mark.parametrize("channel", ["$plans", "locked:plans", "locked:$plans"])
async def test_a_private_channel_opens_with_a_subscription_token_only(
    channel: str, gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    assert (await client.error(subscribe={"channel": channel}))["code"] == 103
    result = await client.subscribe(channel, token=gateway.token("ada", channel=channel))
    assert result["expires"] is True
    assert 3590 <= result["ttl"] <= 3600
    gateway.publish(channel, "secret")
    assert await client.wait_data(channel) == ["secret"]


async def test_a_subscription_token_carries_data_for_the_subscriber(open_client: OpenClient) -> None:
    client = await open_client("ada")
    token = encode_token({"sub": "ada", "channel": "$deal", "client": client.id, "data": {"price": 7}})
    assert await client.subscribe("$deal", token=token) == {"data": {"price": 7}}


@pytest.mark.parametrize(
    ("expires_at", "key", "code"),
    [(1, SECRET, 109), (time.time() + 3600, "another secret, also of more than 32 bytes", 103)],
    ids=["expired", "forged"],
)
async def test_a_bad_subscription_token_is_refused_and_the_client_stays(
    expires_at: float, key: str, code: int, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    token = encode_token({"sub": "ada", "channel": "$plans", "exp": expires_at}, key)
    assert (await client.error(subscribe={"channel": "$plans", "token": token}))["code"] == code
    await client.subscribe("free")


@pytest.mark.parametrize("claim", [{"channel": "$other"}, {"sub": "bob"}, {"client": "someone else's"}], ids=str)
async def test_a_subscription_token_of_something_else_closes_the_connection(
    claim: dict[str, str], open_client: OpenClient
) -> None:
    client = await open_client("ada")
    token = encode_token({"sub": "ada", "channel": "$plans"} | claim)
    with pytest.raises(ConnectionError):
        await client.command(subscribe={"channel": "$plans", "token": token})
    assert await client.wait_closed() == (3500, "invalid token")


async def test_a_channel_with_a_user_list_is_for_these_users_alone(gateway: Gateway, open_client: OpenClient) -> None:
    ada, bob, eve = [await open_client(user) for user in ("ada", "bob", "eve")]
    for client in (ada, bob):
        await client.subscribe("dialog#ada,bob")
    assert (await eve.error(subscribe={"channel": "dialog#ada,bob"}))["code"] == 103
    token = gateway.token("eve", channel="dialog#ada,bob")
    assert (await eve.error(subscribe={"channel": "dialog#ada,bob", "token": token}))["code"] == 103
    assert (await eve.error(subscribe={"channel": "#ada"}))["code"] == 103
    assert gateway.publish("dialog#ada,bob", "psst") == 1
    assert await ada.wait_data("dialog#ada,bob") == ["psst"]
    assert await bob.wait_data("dialog#ada,bob") == ["psst"]


async def test_subscriptions_in_the_frame_of_the_connect_are_answered_in_order(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client(None)
    commands = [
        {"connect": {"token": gateway.token("ada")}},
        {"subscribe": {"channel": "one"}},
        {"subscribe": {"channel": "closed:vip"}},
        {"subscribe": {"channel": "two"}},
    ]
    connected, one, refused, two = [await reply for reply in await client.post(*commands)]
    assert connected["connect"]["client"]
    assert one["subscribe"] == two["subscribe"] == {}
    assert refused["error"]["code"] == 103
    gateway.publish("two", 2)
    assert await client.wait_data("two") == [2]


async def test_a_client_has_128_channels_and_gets_an_error_for_the_next(open_client: OpenClient) -> None:
    client = await open_client()
    replies = await client.post(*({"subscribe": {"channel": f"many-{number}"}} for number in range(129)))
    answers = [await reply for reply in replies]
    assert [answer["id"] for answer in answers if "error" in answer] == [answers[-1]["id"]]
    assert answers[-1]["error"]["code"] == 106
