"""The npm package `centrifuge`, unchanged, against the running gateway."""

from __future__ import annotations

import os
import signal

import pytest

from tests.sdk.conftest import JavaScript
from tests.support.gateway import Gateway, encode_token
from tests.support.waiting import wait_until

pytestmark = pytest.mark.node


def connected(js: JavaScript, gateway: Gateway, user: str, *channels: str) -> None:
    """A connected client with subscriptions, named like its user."""
    js.create(user, gateway.url, token=gateway.token(user))
    for channel in channels:
        js.do("subscribe", user, channel=channel)
    js.do("connect", user)
    js.wait(user, "connected")
    for channel in channels:
        js.wait(user, "subscribed", channel=channel)


def data(events: list[dict[str, object]]) -> list[object]:
    return [event["data"] for event in events]


def test_it_connects_subscribes_and_receives_what_a_backend_publishes(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada")
    (event,) = js.wait("ada", "connected")
    assert event["transport"] == "websocket"
    js.do("subscribe", "ada", channel="news")
    js.wait("ada", "subscribed", channel="news")
    for number in range(100):
        gateway.publish("news", {"n": number, "text": "grüß\ndich"})
    publications = js.wait("ada", "publication", 100, channel="news")
    assert data(publications) == [{"n": number, "text": "grüß\ndich"} for number in range(100)]
    (line,) = gateway.logged("connection opened", client=event["id"])
    assert line["sdk"] == "js"
    assert line["user"] == "ada"


def test_subscriptions_made_before_connect_travel_in_its_frame_and_all_work(js: JavaScript, gateway: Gateway) -> None:
    channels = [f"early-{number}" for number in range(20)]
    connected(js, gateway, "ada", *channels)
    for channel in channels:
        gateway.publish(channel, channel)
    for channel in channels:
        assert data(js.wait("ada", "publication", channel=channel)) == [channel]


def test_what_one_client_publishes_reaches_both_with_who_sent_it(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "chat:lobby")
    connected(js, gateway, "bob", "chat:lobby")
    assert "done" in js.do("publish", "ada", channel="chat:lobby", data={"text": "hi"})
    for user in ("ada", "bob"):
        (event,) = js.wait(user, "publication", channel="chat:lobby")
        assert event["data"] == {"text": "hi"}
        assert event["info"]["user"] == "ada"


def test_publications_to_a_user_and_to_all_arrive_on_the_client_itself(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada")
    connected(js, gateway, "bob")
    assert js.wait("ada", "subscribed", channel="#ada")
    gateway.publish("#ada", 1)
    gateway.publish("@all", 2)
    assert data(js.wait("ada", "publication", channel="#ada")) == [1]
    for user in ("ada", "bob"):
        assert data(js.wait(user, "publication", channel="@all")) == [2]
    assert not js.events("bob", "publication", channel="#ada")


def test_unsubscribe_ends_delivery(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "left", "kept")
    js.do("unsubscribe", "ada", channel="left")
    js.wait("ada", "unsubscribed", channel="left")
    js.do("subscribe", "ada", channel="marker")
    js.wait("ada", "subscribed", channel="marker")  # its reply comes behind that of `unsubscribe`
    gateway.publish("left", 1)
    gateway.publish("kept", 2)
    assert data(js.wait("ada", "publication", channel="kept")) == [2]
    assert not js.events("ada", "publication", channel="left")


def test_it_comes_back_and_resubscribes_after_its_worker_was_killed(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "news", "chat:lobby")
    os.kill(gateway.pid("edge-1"), signal.SIGKILL)
    js.wait("ada", "connected", 2)
    for channel in ("news", "chat:lobby"):
        js.wait("ada", "subscribed", 2, channel=channel)
    gateway.look_around()
    gateway.publish("news", "after")
    assert data(js.wait("ada", "publication", channel="news")) == ["after"]
    assert js.events("ada", "connecting")[1]["reason"] == "transport closed"
    assert not js.events("ada", "disconnected")


def test_it_comes_back_after_a_shutdown_of_its_worker_was_announced_with_3001(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "news")
    os.kill(gateway.pid("edge-1"), signal.SIGTERM)
    js.wait("ada", "connected", 2)
    js.wait("ada", "subscribed", 2, channel="news")
    gateway.look_around()
    (_, again) = js.events("ada", "connecting")
    assert (again["code"], again["reason"]) == (3001, "shutdown")


def test_an_expired_token_is_replaced_through_get_token(js: JavaScript, gateway: Gateway) -> None:
    js.create("ada", gateway.url, token=encode_token({"sub": "ada", "exp": 1}), asks=True)
    js.do("subscribe", "ada", channel="news")
    js.do("connect", "ada")
    (wanted,) = js.wait("ada", "token wanted")
    js.do("token", id=wanted["id"], token=gateway.token("ada"))
    js.wait("ada", "connected")
    js.wait("ada", "subscribed", channel="news")
    assert [event["error"]["code"] for event in js.events("ada", "error")] == [109]


def test_a_token_is_refreshed_before_it_expires_without_a_new_connection(js: JavaScript, gateway: Gateway) -> None:
    js.create("ada", gateway.url, asks=True)
    js.do("connect", "ada")
    (first,) = js.wait("ada", "token wanted")
    js.do("token", id=first["id"], token=gateway.token("ada", ttl_s=3))
    js.wait("ada", "connected")
    second = js.wait("ada", "token wanted", 2)[1]
    assert "done" in js.do("token", id=second["id"], token=gateway.token("ada", ttl_s=600))
    js.do("subscribe", "ada", channel="news")
    js.wait("ada", "subscribed", channel="news")
    assert len(js.events("ada", "connected")) == 1


def test_a_private_channel_opens_with_a_token_from_get_token(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada")
    js.do("subscribe", "ada", channel="$plans", asks=True)
    (wanted,) = js.wait("ada", "token wanted", channel="$plans")
    js.do("token", id=wanted["id"], token=gateway.token("ada", channel="$plans"))
    js.wait("ada", "subscribed", channel="$plans")
    gateway.publish("$plans", "secret")
    assert data(js.wait("ada", "publication", channel="$plans")) == ["secret"]


def test_an_expired_subscription_token_is_replaced_through_get_token(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada")
    expired = encode_token({"sub": "ada", "channel": "$plans", "exp": 1})
    js.do("subscribe", "ada", channel="$plans", token=expired, asks=True)
    (wanted,) = js.wait("ada", "token wanted", channel="$plans")
    js.do("token", id=wanted["id"], token=gateway.token("ada", channel="$plans"))
    js.wait("ada", "subscribed", channel="$plans")


@pytest.mark.parametrize(("channel", "code"), [("closed:x", 103), ("nowhere:x", 102), ("b{a}d", 107)])
def test_a_refused_subscription_ends_with_the_error_and_the_client_stays(
    channel: str, code: int, js: JavaScript, gateway: Gateway
) -> None:
    connected(js, gateway, "ada", "news")
    js.do("subscribe", "ada", channel=channel)
    (event,) = js.wait("ada", "unsubscribed", channel=channel)
    assert event["code"] == code
    gateway.publish("news", 1)
    assert data(js.wait("ada", "publication", channel="news")) == [1]


def test_errors_of_calls_come_out_as_the_sdks_errors(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "news")
    denied = js.do("publish", "ada", channel="news", data=1)
    assert (denied["code"], denied["message"]) == (103, "permission denied")
    assert js.do("rpc", "ada", method="x")["code"] == 108
    assert js.do("history", "ada", channel="news")["code"] == 108
    assert js.do("presence", "ada", channel="news")["code"] == 108


def test_an_invalid_token_ends_for_good_with_3500(js: JavaScript, gateway: Gateway) -> None:
    js.create("eve", gateway.url, token=encode_token({"sub": "eve"}, "another secret, also of more than 32 bytes"))
    js.do("connect", "eve")
    (event,) = js.wait("eve", "disconnected")
    assert (event["code"], event["reason"]) == (3500, "invalid token")
    assert len(js.events("eve", "connecting")) == 1


async def test_it_answers_pings_and_stays_connected(js: JavaScript, gateway: Gateway) -> None:
    connected(js, gateway, "ada", "news")
    before = gateway.metric("gateway_pings_total")
    await wait_until(lambda: gateway.metric("gateway_pings_total") >= before + 3, "more than one round of pings")
    gateway.publish("news", "still here")
    assert data(js.wait("ada", "publication", channel="news")) == ["still here"]
    assert len(js.events("ada", "connecting")) == 1
