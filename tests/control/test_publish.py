"""`publish`: what reaches Redis, and what the caller hears when it cannot."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import BrokerBusy, BrokerRefused, BrokerUnavailable
from protocol.redis_contract import decode_payload
from tests.control.conftest import Control


async def test_data_is_published_to_its_channel(control: Control, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/publish", json={"channel": "chat:lobby", "data": {"text": "hi"}})
    assert answer.status_code == 200
    assert answer.json() == {"result": {}}
    assert control.redis.published == [("chat:lobby", b'{"text":"hi"}')]


@pytest.mark.parametrize(
    "data",
    [
        b"123456789012345678901234567890",
        b"1.0",
        b"1",
        b"-0.0",
        b"1e2",
        b'{"z":1,"a":2,"z":3}',
        b'"\\u00e9 \\/ \xc3\xa9"',
        b"null",
        b'[ 1 ,  {"a" : 0.10} ]',
        b'"@1 not an envelope"',
    ],
)
async def test_data_arrives_byte_for_byte(control: Control, client: httpx.AsyncClient, data: bytes) -> None:
    await client.post("/api/publish", content=b'{ "data": ' + data + b' , "channel": "news" }')
    assert control.redis.published == [("news", data)]


async def test_data_over_several_lines_becomes_one(control: Control, client: httpx.AsyncClient) -> None:
    await client.post("/api/publish", content=b'{"channel":"news","data":{\r\n  "a": "b\\n"\n}}')
    assert control.redis.published == [("news", b'{    "a": "b\\n" }')]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
).map(msgspec.json.encode)


@given(data=_json)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_json_value_arrives_byte_for_byte(control: Control, client: httpx.AsyncClient, data: bytes) -> None:
    control.redis.published.clear()
    await client.post("/api/publish", content=b'{"channel":"news","data":' + data + b"}")
    assert control.redis.published == [("news", data)]


async def test_tags_travel_in_the_envelope(control: Control, client: httpx.AsyncClient) -> None:
    await client.post("/api/publish", content=b'{"channel":"news","data":1.0,"tags":{"lang":"de"}}')
    ((_, payload),) = control.redis.published
    received = decode_payload(payload)
    assert received.publication.tags == {"lang": "de"}
    assert bytes(received.publication.data) == b"1.0"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"data": 1}, 107, "channel: is missing"),
        ({"channel": "", "data": 1}, 107, "channel: is missing"),
        ({"channel": "a b", "data": 1}, 107, "channel: channel name has a character"),
        ({"channel": "a{b}", "data": 1}, 107, "channel: channel name has a character"),
        ({"channel": "ä", "data": 1}, 107, "channel: channel name has a character"),
        ({"channel": "c" * 256, "data": 1}, 107, "channel: channel name has 256 characters"),
        ({"channel": "nowhere:x", "data": 1}, 102, 'no namespace "nowhere"'),
        ({"channel": "news"}, 107, "data: is missing"),
        ({"channel": "news", "b64data": "aGk"}, 107, "b64data: "),
        ({"channel": "news", "data": 1, "idempotency_key": "k"}, 108, "idempotency_key: "),
        ({"channel": "news", "data": 1, "version": 3}, 108, "version: "),
        ({"channel": "news", "data": "x" * 2000}, 107, "data: makes 2002 bytes"),
    ],
)
async def test_what_cannot_be_published_is_refused_with_the_field(
    make_control: Callable[..., Control], body: dict[str, object], code: int, words: str
) -> None:
    control = make_control(limits={"publication_bytes": 2000})
    async with control.client() as client:
        error = (await client.post("/api/publish", json=body)).json()["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert control.redis.published == []


@pytest.mark.parametrize(
    ("data", "words"), [(b'"\\ud800"', "body: not a JSON document"), (b"1e999", "data: not a JSON")]
)
async def test_data_that_clients_could_not_read_is_refused(
    control: Control, client: httpx.AsyncClient, data: bytes, words: str
) -> None:
    error = (await client.post("/api/publish", content=b'{"channel":"news","data":' + data + b"}")).json()["error"]
    assert error["code"] == 107
    assert words in error["message"]
    assert control.redis.published == []


@pytest.mark.parametrize("channel", ["@all", "#42", "dialog#42,43", "$private", "chat:$private", "default:x"])
async def test_backends_may_publish_to_every_kind_of_channel(
    control: Control, client: httpx.AsyncClient, channel: str
) -> None:
    assert (await client.post("/api/publish", json={"channel": channel, "data": 1})).json() == {"result": {}}
    assert control.redis.published == [(channel, b"1")]


async def test_fields_of_newer_clients_are_ignored(client: httpx.AsyncClient) -> None:
    body = {"channel": "news", "data": 1, "delta": True, "skip_history": True, "from_the_future": 1}
    assert (await client.post("/api/publish", json=body)).json() == {"result": {}}


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (BrokerUnavailable("connection refused"), 100, 500),
        (BrokerBusy(10_000), 111, 429),
        (BrokerRefused("OOM command not allowed"), 100, 500),
    ],
)
async def test_trouble_with_redis_is_an_error_and_heals(
    control: Control, client: httpx.AsyncClient, failure: BrokerUnavailable, code: int, status: int
) -> None:
    control.redis.error = failure
    body = {"channel": "news", "data": 1}
    assert (await client.post("/api/publish", json=body)).json()["error"]["code"] == code
    transport = await client.post("/api/publish", json=body, headers={"X-Centrifugo-Error-Mode": "Transport"})
    assert transport.status_code == status
    control.redis.error = None
    assert (await client.post("/api/publish", json=body)).json() == {"result": {}}


async def test_message_says_that_unavailable_redis_is_temporary(control: Control, client: httpx.AsyncClient) -> None:
    control.redis.error = BrokerUnavailable("connection refused")
    error = (await client.post("/api/publish", json={"channel": "news", "data": 1})).json()["error"]
    assert "temporary" in error["message"]
