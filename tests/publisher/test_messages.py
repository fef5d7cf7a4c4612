"""What a publisher takes, and what it says about what it does not take."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.errors import GatewayError
from gateway.publisher import Binary, History, Message, PublishInvalid, RawJSON
from gateway.publisher.messages import Rules, encode_data
from protocol.redis_contract import decode_payload

LOG = History(10, 60.0)
RULES = Rules(namespaces={"default": None, "chat": LOG}, max_bytes=1000, channel_length=64)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@dataclass
class Order:
    number: int


class Struct(msgspec.Struct):
    number: int


class Model(BaseModel):
    day: datetime.date


def prepared(channel: str = "chat:lobby", data: Any = 1, **fields: Any) -> Any:
    return RULES.prepare(Message(channel=channel, data=data, **fields))


@given(JSON)
def test_data_arrives_as_it_was_given_on_one_line(data: Any) -> None:
    try:
        encoded = encode_data(data)
    except PublishInvalid:
        assert not json.dumps(data, ensure_ascii=False).isascii()  # half a surrogate pair
        return
    assert json.loads(encoded) == data
    assert b"\n" not in encoded


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (Order(1), b'{"number":1}'),
        (Struct(1), b'{"number":1}'),
        ({"model": Model(day=datetime.date(2026, 1, 2))}, b'{"model":{"day":"2026-01-02"}}'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        ({1: "one"}, b'{"1":"one"}'),
        (RawJSON(b'{"n": 1.10}'), b'{"n": 1.10}'),
        (RawJSON(b"[1,\n2]"), b"[1, 2]"),
        (Binary(b"\x00\xff"), b'{"$binary":"AP8="}'),
    ],
)
def test_more_than_plain_json_values_can_be_published(data: object, encoded: bytes) -> None:
    assert encode_data(data) == encoded


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"channel": ""}, "channel"),
        ({"channel": "no spaces"}, "channel"),
        ({"channel": "x" * 65}, "channel"),
        ({"channel": "unknown:x"}, "channel"),
        ({"channel": 5}, "channel"),
        ({"data": object()}, "data"),
        ({"data": {"nested": [{1, 2}]}}, "data"),
        ({"data": CIRCLE}, "data"),
        ({"data": 2**64}, "data"),
        ({"data": "\ud800"}, "data"),
        ({"data": b"{}"}, "data"),
        ({"data": RawJSON(b"{")}, "data"),
        ({"data": RawJSON(b"")}, "data"),
        ({"data": "x" * 1000}, "data"),
        ({"tags": {"x": "y" * 1000}}, "data"),
        ({"tags": ["a"]}, "tags"),
        ({"tags": {"a": 1}}, "tags"),
        ({"tags": {"a": "\ud800"}}, "tags"),
        ({"key": ""}, "key"),
        ({"key": "x" * 256}, "key"),
        ({"key": "line\n"}, "key"),
        ({"version": -1}, "version"),
        ({"version": True}, "version"),
        ({"version": 2**53}, "version"),
        ({"version_epoch": "a"}, "version_epoch"),
        ({"version": 1, "version_epoch": "\ud800"}, "version_epoch"),
        ({"channel": "news", "key": "k"}, "key"),
        ({"channel": "news", "version": 1}, "version"),
        ({"history": None, "key": "k"}, "key"),
    ],
)
def test_what_cannot_be_published_is_a_value_error_that_names_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: ") as caught:
        prepared(**fields)
    assert isinstance(caught.value, PublishInvalid)
    assert isinstance(caught.value, GatewayError)
    assert caught.value.field == field


@pytest.mark.parametrize(("size", "ttl_s"), [(0, 60), (-1, 60), (10, 0), (10, -1), (10, float("nan"))])
def test_a_history_without_room_or_time_is_none(size: int, ttl_s: float) -> None:
    with pytest.raises(PublishInvalid, match=r"^history\."):
        History(size, ttl_s)


def test_namespaces_say_which_channels_have_a_log_and_a_message_may_say_otherwise() -> None:
    assert prepared("chat:lobby").history == LOG
    assert prepared("$chat:lobby").history == LOG
    assert prepared("news").history is None
    assert prepared("#42").history is None
    assert prepared("chat:lobby", history=None).history is None
    assert prepared("news", history=LOG).history == LOG


def test_what_goes_past_a_log_on_purpose_says_so() -> None:
    assert decode_payload(prepared("chat:a", history=None).payload).skip_history  # type: ignore[union-attr]
    assert prepared("news", history=None).payload == prepared("news").payload


def test_what_has_a_log_has_a_key_of_its_own_unless_one_is_given() -> None:
    keys = {prepared().key for _ in range(100)}
    assert len(keys) == 100
    assert "" not in keys
    assert prepared(key="mine").key == "mine"
    assert prepared("news").key == ""


def test_without_a_log_data_travels_bare_and_with_tags_in_an_envelope() -> None:
    assert prepared("news", {"a": 1}).payload == b'{"a":1}'
    received = decode_payload(prepared("news", {"a": 1}, tags={"kind": "x"}).payload)
    assert (bytes(received.publication.data), received.publication.tags) == (b'{"a":1}', {"kind": "x"})
    assert received.position is None
