"""Commands that make no sense: an error, or the door, for the one who sent them; nothing for anybody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.features.conftest import OpenClient, OpenWire
from tests.support.gateway import Gateway, serving
from tests.support.wire import frame

pytestmark = pytest.mark.usefixtures("bystander")

BAD_REQUEST = (3501, "bad request")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = {
        "limits": {"message_bytes": 2_000_000},  # room for 10,000 commands
        "namespaces": {"default": {"publish_by": "subscriber"}},
    }
    with serving(config) as gateway:
        yield gateway


@pytest.mark.parametrize(
    "text",
    [
        '{"id":1,"subscribe":{"channel":"news"}}',
        '{"id":1,"publish":{"channel":"news","data":1}}',
        '{"id":1,"ping":{}}',
        '{"id":1}',
        '{"send":{"data":1}}',
        "{}",
    ],
)
async def test_a_command_before_connect_closes_with_3501(text: str, open_client: OpenClient) -> None:
    client = await open_client(None)
    await client.send_text(text)
    assert await client.wait_closed() == BAD_REQUEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "not json",
        "[]",
        "null",
        '"connect"',
        '{"id":5,"ping":{}',
        '{"id":5,"ping":{}} trailing',
        '{"id":"5","ping":{}}',
        '{"id":-1,"ping":{}}',
        '{"id":4294967296,"ping":{}}',
        '{"id":1.5,"ping":{}}',
        '{"id":5,"ping":[]}',
        '{"id":5,"subscribe":{"channel":7}}',
        '{"id":5,"subscribe":{"channel":"\\ud83d"}}',
        '{"ping":{}}',
        "{}",
        '{"id":5,"connect":{}}',
        "[" * 100_000,
        '{"id":5,"publish":{"data":' + '{"a":' * 100_000,
        '{"id":5,"rpc":{"data":' + "[" * 10_000 + "]" * 10_000 + "}",
    ],
    ids=lambda text: text[:30] or "empty",
)
async def test_what_is_no_command_closes_a_connected_client_with_3501(text: str, open_client: OpenClient) -> None:
    client = await open_client("eve")
    await client.send_text(text)
    assert await client.wait_closed() == BAD_REQUEST


async def test_good_commands_in_front_of_a_bad_one_in_the_same_frame_are_not_carried_out(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("eve")
    await client.send_text('{"id":5,"subscribe":{"channel":"halfway"}}\n{"id":6,')
    assert await client.wait_closed() == BAD_REQUEST
    assert gateway.publish("halfway", 1) == 0


async def test_an_unknown_command_is_answered_with_104_and_the_client_stays(open_client: OpenClient) -> None:
    client = await open_client()
    assert await client.command(fly={"to": "the moon"}) == {
        "id": 2,
        "error": {"code": 104, "message": "method not found"},
    }
    assert await client.call(ping={}) == {}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"rpc": {"method": "x"}}, 108),
        ({"history": {"channel": "mine"}}, 108),
        ({"presence": {"channel": "mine"}}, 108),
        ({"presence_stats": {"channel": "mine"}}, 108),
        ({"history": {"channel": "other"}}, 103),
        ({"presence": {"channel": "other"}}, 103),
        ({"publish": {"channel": "mine"}}, 107),
        ({"publish": {}}, 107),
        ({"subscribe": {}}, 107),
        ({"subscribe": {"channel": "nowhere:x"}}, 102),
        ({"subscribe": {"channel": "mine"}}, 105),
        ({"sub_refresh": {"channel": "mine", "token": "x"}}, 103),
        ({"sub_refresh": {"channel": "other", "token": "x"}}, 103),
    ],
    ids=str,
)
async def test_a_command_that_cannot_be_done_is_answered_with_an_error_and_the_client_stays(
    request_: dict[str, Any], code: int, open_client: OpenClient
) -> None:
    client = await open_client()
    await client.subscribe("mine")
    error = await client.error(**request_)
    assert error["code"] == code
    assert "temporary" not in error
    assert await client.call(ping={}) == {}


@pytest.mark.parametrize(
    "channel",
    ["x" * 256, "grüße", "a b", "a{b}", "{", "a\nb", "a\x00b", ":x", "x:", "a#", "a#,b", "", "ns ace:x"],
    ids=lambda name: ascii(name)[:20],
)
async def test_a_channel_name_that_cannot_be_is_answered_with_107_that_says_why(
    channel: str, open_client: OpenClient
) -> None:
    client = await open_client()
    error = await client.error(subscribe={"channel": channel})
    assert error["code"] == 107
    assert error["message"].startswith("bad request: ")
    assert await client.call(ping={}) == {}


async def test_a_channel_name_of_255_characters_is_fine(gateway: Gateway, open_client: OpenClient) -> None:
    client = await open_client()
    await client.subscribe("x" * 255)
    gateway.publish("x" * 255, 1)
    assert await client.wait_data("x" * 255) == [1]


async def test_ten_thousand_commands_in_one_frame_end_with_3013(open_client: OpenClient) -> None:
    """500 are carried out, 500 answered with 111 (temporary), and who still goes on has to come back later."""
    client = await open_client("eve")
    replies = await client.post(*({"ping": {}} for _ in range(10_000)))
    assert await client.wait_closed() == (3013, "too many requests")
    answers = await asyncio.gather(*replies, return_exceptions=True)
    done = [answer for answer in answers if isinstance(answer, dict) and "ping" in answer]
    refused = [answer for answer in answers if isinstance(answer, dict) and "error" in answer]
    assert 490 <= len(done) <= 600
    assert len(refused) == 500
    assert {json.dumps(answer["error"]) for answer in refused} == {
        '{"code": 111, "message": "too many requests", "temporary": true}'
    }
    assert isinstance(answers[-1], ConnectionError)


async def test_ten_thousand_pongs_in_one_frame_end_with_3501(open_client: OpenClient) -> None:
    client = await open_client("eve")
    await client.send_text("\n".join(["{}"] * 10_000))
    assert await client.wait_closed() == BAD_REQUEST


async def test_ten_thousand_subscribes_in_one_frame_take_nothing_from_others(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("eve")
    await client.post(*({"subscribe": {"channel": f"greedy-{number}"}} for number in range(10_000)))
    assert (await client.wait_closed())[0] == 3013
    assert gateway.metric("gateway_subscriptions") <= 3


async def test_commands_above_the_rate_get_111_and_the_client_may_go_on_a_little_later(open_client: OpenClient) -> None:
    client = await open_client()
    replies = [await reply for reply in await client.post(*({"ping": {}} for _ in range(700)))]
    assert any(reply.get("error", {}).get("code") == 111 for reply in replies)
    while "error" in (reply := await client.command(ping={})):
        assert reply["error"]["code"] == 111


async def test_a_flood_of_frames_without_reading_answers_is_ended(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.connect(gateway.token("eve"))
    wire.send(b"".join(frame(b'{"id":%d,"ping":{}}' % number) for number in range(1, 5000)))
    assert await wire.closed() == (3013, "too many requests")
