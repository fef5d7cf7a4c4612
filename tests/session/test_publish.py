"""`publish`: who may, what goes to Redis, when it is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from gateway.errors import BrokerBusy, BrokerRefused, BrokerUnavailable
from gateway.metrics import names
from protocol.encodings import JSON
from protocol.redis_contract import decode_payload
from tests.support.hub import turn
from tests.support.session import SessionWorld

OPEN = {"namespaces": {"default": {"publish_by": "anyone"}}}


async def test_a_publication_goes_to_redis_with_the_name_of_who_published() -> None:
    world = SessionWorld(**OPEN)
    client = await world.connected("42", info={"name": "Ada"})
    assert await client.ask(publish={"channel": "news", "data": {"text": "hi"}}) == {"id": 2, "publish": {}}
    ((channel, payload),) = world.broker.published
    assert channel == b"gw:pub:news"
    publication = decode_payload(payload).publication
    assert publication.info is not None
    assert (publication.info.user, publication.info.client) == ("42", client.session.client)
    assert json.loads(bytes(publication.info.conn_info)) == {"name": "Ada"}  # type: ignore[arg-type]
    assert publication.info.chan_info is UNSET
    assert json.loads(bytes(publication.data)) == {"text": "hi"}  # type: ignore[arg-type]
    assert world.counters[names.PUBLISHED] == 1


async def test_a_subscriber_s_channel_information_goes_along() -> None:
    world = SessionWorld(**OPEN)
    client = await world.connected()
    token = world.token(channel="$x", info={"role": "host"})
    await client.ask(subscribe={"channel": "$x", "token": token})
    await client.ask(publish={"channel": "$x", "data": 1})
    info = decode_payload(world.broker.published[0][1]).publication.info
    assert info is not None
    assert json.loads(bytes(info.chan_info)) == {"role": "host"}  # type: ignore[arg-type]


async def test_data_with_newlines_goes_out_on_one_line() -> None:
    world = SessionWorld(**OPEN)
    client = await world.connected()
    client.session.receive(JSON.decode_commands(b'{"id":2,"publish":{"channel":"news","data":{\n  "a":\r\n 1}}}'))
    assert b"\n" not in world.broker.published[0][1].partition(b"\n")[2]


@pytest.mark.parametrize(
    ("rules", "channel", "subscribed", "code"),
    [
        ("nobody", "news", False, 103),
        ("nobody", "news", True, 103),
        ("subscriber", "news", False, 103),
        ("subscriber", "news", True, None),
        ("authenticated", "news", False, None),
        ("anyone", "news", False, None),
        ("anyone", "$x", False, 103),
        ("anyone", "$x", True, None),
        ("anyone", "dialog#42,43", False, None),
        ("anyone", "dialog#43,44", False, 103),
        ("anyone", "#42", True, None),
        ("anyone", "#43", False, 103),
        ("anyone", "@all", True, 103),
        ("anyone", "@other", False, 103),
    ],
)
async def test_who_may_publish_follows_namespace_mark_and_list(
    rules: str, channel: str, subscribed: bool, code: int | None
) -> None:
    world = SessionWorld(namespaces={"default": {"publish_by": rules}})
    client = await world.connected()
    if subscribed and channel not in ("@all", "#42"):  # these two the server subscribes to
        await client.ask(subscribe={"channel": channel, "token": world.token(channel=channel)})
    answer = await client.ask(publish={"channel": channel, "data": 1})
    assert answer.get("error", {}).get("code") == code
    assert len(world.broker.published) == (0 if code else 1)


async def test_insecure_opens_everything_but_the_names_that_are_the_server_s() -> None:
    world = SessionWorld(auth={"insecure": True})
    client = world.client()
    await client.ask(connect={})
    assert "publish" in await client.ask(publish={"channel": "$x", "data": 1})
    assert (await client.ask(publish={"channel": "@all", "data": 1}))["error"]["code"] == 103


async def test_a_publication_needs_data() -> None:
    world = SessionWorld(**OPEN)
    client = await world.connected()
    answer = await client.ask(publish={"channel": "news"})
    assert answer["error"] == {"code": 107, "message": "bad request: data is missing"}
    assert "publish" in await client.ask(publish={"channel": "news", "data": None})


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), BrokerRefused("OOM")])
async def test_a_publish_that_redis_did_not_take_is_a_temporary_error(error: Exception) -> None:
    world = SessionWorld(**OPEN)
    world.broker.error = error
    client = await world.connected()
    answer = await client.ask(publish={"channel": "news", "data": 1})
    assert answer["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    assert client.closed is None
    assert world.counters[names.PUBLISHED] == 0
    assert world.counters[names.ERRORS] == 0


async def test_a_publish_while_too_much_waits_for_redis_is_a_temporary_error() -> None:
    world = SessionWorld(**OPEN)
    world.broker.busy = BrokerBusy(10_000)
    client = await world.connected()
    assert (await client.ask(publish={"channel": "news", "data": 1}))["error"]["temporary"]


async def test_an_unexpected_error_is_counted_and_answered() -> None:
    world = SessionWorld(**OPEN)
    world.broker.error = RuntimeError("bug")
    client = await world.connected()
    assert (await client.ask(publish={"channel": "news", "data": 1}))["error"]["code"] == 100
    assert world.counters[names.ERRORS] == 1


async def test_a_publish_is_answered_when_redis_has_it_and_holds_up_no_other_command() -> None:
    world = SessionWorld(**OPEN)
    world.broker.late = True
    client = await world.connected()
    publish: dict[str, Any] = {"publish": {"channel": "news", "data": 1}}
    assert await client.frame({"id": 5, **publish}, {"id": 6, **publish}, {"id": 7, "ping": {}}) == [
        {"id": 7, "ping": {}}
    ]
    for done in world.broker.waiting:
        done.set_result(1)
    await turn(2)
    assert [answer["id"] for answer in client.news()] == [5, 6]


async def test_a_client_that_went_before_redis_answered_gets_nothing() -> None:
    world = SessionWorld(**OPEN)
    world.broker.late = True
    client = await world.connected()
    await client.frame({"id": 5, "publish": {"channel": "news", "data": 1}})
    client.session.closed("connection lost")
    world.broker.waiting[0].set_result(1)
    await turn(2)
    assert client.news() == []
    assert client.outlet.queued == []


@pytest.mark.parametrize("history", [{}, {"history_size": 5, "history_ttl_s": 60}])
async def test_what_workers_would_drop_as_too_large_is_refused(history: dict[str, int]) -> None:
    world = SessionWorld(limits={"publication_bytes": 2000}, namespaces={"default": {"publish_by": "anyone"} | history})
    client = await world.connected("42", info={"name": "x" * 500})
    assert "publish" in await client.ask(publish={"channel": "news", "data": "x" * 1000})
    answer = await client.ask(publish={"channel": "news", "data": "x" * 1400})
    assert answer["error"]["code"] == 106
    assert "2000 are allowed" in answer["error"]["message"]
    assert len(world.broker.published) + world.hub.log.tops.get("news", 0) == 1
