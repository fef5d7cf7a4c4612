"""What backends write to Redis by mistake is dropped, counted and said once; the subscriber goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("bystander")

DROPPED = "gateway_dropped_total"
FIVE_MB = 5_000_000


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving() as gateway:
        yield gateway


@pytest.fixture
async def reader(open_client: OpenClient) -> Client:
    client = await open_client("reader")
    await client.subscribe("news")
    return client


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"plain text",
        b'{"a":1',
        b'{"a":1} {"b":2}',
        b"\xff\xfe",
        b'"\xff"',
        b"\x00",
        b"NaN",
        b"[" * 100_000,
        b"@",
        b"@1",
        b"@1 \n",
        b'@1 0 -\n{"no":"metadata"}',
        b"@1 0 - -",
        b"@1 x - -\n1",
        b"@1 -5 e -\n1",
        b"@1 5  -\n1",
        b"@1 " + b"9" * 40 + b" e -\n1",
        b"@1 0 - {bad\n1",
        b'@1 0 - {"info":7}\n1',
        b'@1 0 - {"tags":{"a":1}}\n1',
        b"@1 0 - -\n",
        b"@1 0 - -\nnot json",
        b"@9 0 - -\n1",
        b"@1 0 \xff -\n1",
    ],
    ids=lambda payload: ascii(payload[:20])[2:-1] or "empty",
)
async def test_an_undecodable_payload_is_dropped_and_counted_and_what_follows_arrives(
    payload: bytes, gateway: Gateway, reader: Client
) -> None:
    before = gateway.metric(DROPPED, reason="undecodable")
    assert gateway.publish_raw("news", payload) == 1
    gateway.publish("news", "fine")
    assert await reader.wait_data("news") == ["fine"]
    assert gateway.metric(DROPPED, reason="undecodable") == before + 1


async def test_a_payload_of_5_mb_is_dropped_and_counted_and_what_follows_arrives(
    gateway: Gateway, reader: Client
) -> None:
    before = gateway.metric(DROPPED, reason="too_large")
    for _ in range(3):
        gateway.publish("news", "x" * FIVE_MB)
    gateway.publish("news", "fine")
    assert await reader.wait_data("news") == ["fine"]
    assert gateway.metric(DROPPED, reason="too_large") == before + 3


async def test_a_payload_of_5_mb_that_nobody_here_reads_costs_nothing_but_time(
    gateway: Gateway, open_client: OpenClient, reader: Client
) -> None:
    leaver = await open_client("leaver")
    await leaver.subscribe("lingering")
    await leaver.call(unsubscribe={"channel": "lingering"})
    assert gateway.publish("lingering", "x" * FIVE_MB) == 1
    gateway.publish("news", "fine")
    assert await reader.wait_data("news") == ["fine"]


async def test_a_thousand_bad_payloads_are_one_log_line_a_minute(gateway: Gateway, reader: Client) -> None:
    for _ in range(1000):
        gateway.publish_raw("news", b"bad")
    gateway.publish("news", "x" * 2_000_000)
    gateway.publish("news", "fine")
    assert await reader.wait_data("news") == ["fine"]
    undecodable, *more = gateway.logged("publication dropped", reason="undecodable")
    too_large, *more_large = gateway.logged("publication dropped", reason="too large")
    assert max(len(more), len(more_large)) <= 1, "all tests of this module take less than two minutes"
    assert undecodable["channel"] == too_large["channel"] == "news"
    assert too_large["limit"] == 1_048_576
    assert {undecodable["level"], too_large["level"]} == {"warning"}


async def test_a_payload_just_within_the_limit_arrives(gateway: Gateway, reader: Client) -> None:
    text = "x" * (1_048_576 - 2)
    gateway.publish("news", text)
    assert await reader.wait_data("news") == [text]


async def test_a_document_over_several_lines_arrives_as_one_message(gateway: Gateway, reader: Client) -> None:
    gateway.publish_raw("news", b'{\r\n  "text": "a\\nb",\n  "list": [\n1,\n2\n]\n}\n')
    assert await reader.wait_data("news") == [{"text": "a\nb", "list": [1, 2]}]


async def test_an_envelope_says_who_published_and_carries_tags(gateway: Gateway, reader: Client) -> None:
    metadata = {"info": {"user": "backend", "client": ""}, "tags": {"kind": "price"}}
    gateway.publish_raw("news", b'@1 0 - %b\n{"n":1}' % json.dumps(metadata).encode())
    await reader.wait_data("news")
    assert reader.publications("news") == [{"data": {"n": 1}, **metadata}]


@pytest.mark.parametrize("name", ["gw:pub:", "gw:pub:\xff\xfe", "gw:pub:" + "x" * 5000, "gw:control", "gw:other", ""])
async def test_odd_channel_names_in_redis_reach_nobody(name: str, gateway: Gateway, reader: Client) -> None:
    gateway.redis.publish(name.encode("latin-1"), b"1")
    gateway.publish("news", "fine")
    assert await reader.wait_data("news") == ["fine"]
    await wait_until(lambda: gateway.ready() == (200, "ready\n"), "the worker is ready")
