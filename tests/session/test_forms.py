"""What a client asks for with `subscribe`, and gets: deltas, the number of a channel."""

from __future__ import annotations

import pytest

from protocol.commands import Command, ConnectRequest, SubscribeRequest
from protocol.encodings import JSON, MSGPACK, PROTOBUF, Encoding
from tests.support.session import SessionWorld

DELTAS = {"namespaces": {"default": {"delta": True}, "plain": {}}}


async def shape_of(world: SessionWorld, encoding: Encoding, sdk: str, request: SubscribeRequest) -> int:
    """The shape of a subscription that a client with this encoding and SDK has made."""
    client = world.client()
    client.outlet.encoding = encoding
    for command in (
        Command(id=1, connect=ConnectRequest(token=world.token(), name=sdk)),
        Command(id=2, subscribe=request),
    ):
        client.session.receive([command])
        await world.settle()
    subscription = client.session.subscriptions[request.channel]
    return subscription.channel.shapes.get(client.outlet, 0)


async def test_deltas_are_agreed_on_where_the_namespace_has_them_and_they_are_asked_for_by_name() -> None:
    client = await SessionWorld(**DELTAS).connected()
    assert (await client.ask(subscribe={"channel": "a", "delta": "fossil"}))["subscribe"] == {"delta": True}
    for channel, delta in (("b", ""), ("c", "unknown"), ("plain:d", "fossil")):
        assert (await client.ask(subscribe={"channel": channel, "delta": delta}))["subscribe"] == {}


@pytest.mark.parametrize(("encoding", "agreed"), [(JSON, True), (PROTOBUF, True), (MSGPACK, False)])
async def test_msgpack_has_no_deltas(encoding: Encoding, agreed: bool) -> None:
    shape = await shape_of(SessionWorld(**DELTAS), encoding, "", SubscribeRequest("a", delta="fossil"))
    assert bool(shape) is agreed


async def test_who_asks_gets_the_number_of_the_channel() -> None:
    client = await SessionWorld(**DELTAS).connected()
    numbers = [
        (await client.ask(subscribe={"channel": channel, "flag": flag}))["subscribe"].get("id", 0)
        for channel, flag in (("a", 1), ("b", 3), ("c", 2), ("d", 0))
    ]
    assert numbers[0] != numbers[1]
    assert min(numbers[:2]) > 0
    assert numbers[2:] == [0, 0]


@pytest.mark.parametrize(
    ("sdk", "encoding", "numbered"),
    [("js", JSON, True), ("js", PROTOBUF, False), ("swift", PROTOBUF, True), ("js", MSGPACK, True)],
)
async def test_the_javascript_sdk_gets_no_numbers_in_protobuf_as_it_cannot_read_them(
    sdk: str, encoding: Encoding, numbered: bool
) -> None:
    shape = await shape_of(SessionWorld(), encoding, sdk, SubscribeRequest("a", flag=1))
    assert bool(shape) is numbered
