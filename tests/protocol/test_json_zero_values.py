"""What JSON leaves out because it is zero, and what it never leaves out."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from protocol import commands, replies
from protocol.commands import Command, SubscribeRequest
from protocol.encodings import JSON
from protocol.position import Position
from protocol.replies import (
    ClientInfo,
    Error,
    HistoryResult,
    Join,
    Leave,
    Message,
    PresenceResult,
    Publication,
    PublishResult,
    Push,
    Refresh,
    Reply,
    SubscribeResult,
    Unsubscribe,
)

NEVER_OMITTED = {
    ClientInfo: b'{"user":"","client":""}',
    replies.PresenceResult: b'{"presence":{}}',
    replies.PresenceStatsResult: b'{"num_clients":0,"num_users":0}',
    HistoryResult: b'{"publications":[],"offset":0,"epoch":""}',
    Position: b'{"offset":0,"epoch":""}',
}
STRUCTS = {
    each
    for module in (commands, replies)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, msgspec.Struct)
}
NEED_CONTENT = {Join, Leave}


@pytest.mark.parametrize("struct", sorted(STRUCTS - NEED_CONTENT, key=lambda each: each.__name__))
def test_a_struct_of_zeros_is_an_empty_object_but_for_the_fields_that_are_never_left_out(
    struct: type[msgspec.Struct],
) -> None:
    assert msgspec.json.encode(struct()) == NEVER_OMITTED.get(struct, b"{}")


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (Reply(id=1, publish=PublishResult()), b'{"id":1,"publish":{}}'),
        (Reply(id=2, unsubscribe=replies.UnsubscribeResult()), b'{"id":2,"unsubscribe":{}}'),
        (Reply(id=3, subscribe=SubscribeResult()), b'{"id":3,"subscribe":{}}'),
        (Reply(id=4, rpc=replies.RpcResult()), b'{"id":4,"rpc":{}}'),
        (Reply(id=5, rpc=replies.RpcResult(Raw(b"0"))), b'{"id":5,"rpc":{"data":0}}'),
        (Reply(id=6, ping=replies.PingResult()), b'{"id":6,"ping":{}}'),
        (Reply(id=7, refresh=replies.RefreshResult()), b'{"id":7,"refresh":{}}'),
        (Reply(id=8, sub_refresh=replies.SubRefreshResult()), b'{"id":8,"sub_refresh":{}}'),
        (Reply(id=9, connect=replies.ConnectResult()), b'{"id":9,"connect":{}}'),
        (
            Reply(id=10, presence=PresenceResult({"c": ClientInfo(client="c")})),
            b'{"id":10,"presence":{"presence":{"c":{"user":"","client":"c"}}}}',
        ),
        (
            Reply(id=11, history=HistoryResult([Publication(data=Raw(b"{}"), offset=1)], 1, "e")),
            b'{"id":11,"history":{"publications":[{"data":{},"offset":1}],"offset":1,"epoch":"e"}}',
        ),
        (
            Reply(id=12, error=Error(111, "too many requests", temporary=True)),
            b'{"id":12,"error":{"code":111,"message":"too many requests","temporary":true}}',
        ),
        (
            Reply(id=13, error=Error(103, "permission denied")),
            b'{"id":13,"error":{"code":103,"message":"permission denied"}}',
        ),
    ],
)
def test_a_reply_has_its_id_and_one_result_which_may_be_empty_but_is_there(reply: Reply, wire: bytes) -> None:
    assert JSON.encode_reply(reply) == wire


@pytest.mark.parametrize(
    ("push", "wire"),
    [
        (Push(channel="a", pub=Publication(data=Raw(b"null"))), b'{"channel":"a","pub":{"data":null}}'),
        (
            Push(channel="a", join=Join(ClientInfo("u", "c"))),
            b'{"channel":"a","join":{"info":{"user":"u","client":"c"}}}',
        ),
        (Push(channel="a", leave=Leave(ClientInfo())), b'{"channel":"a","leave":{"info":{"user":"","client":""}}}'),
        (
            Push(channel="a", unsubscribe=Unsubscribe(2500, "x")),
            b'{"channel":"a","unsubscribe":{"code":2500,"reason":"x"}}',
        ),
        (Push(channel="a", subscribe=replies.Subscribe()), b'{"channel":"a","subscribe":{}}'),
        (Push(message=Message(Raw(b'{"x":1}'))), b'{"message":{"data":{"x":1}}}'),
        (Push(refresh=Refresh(expires=True, ttl=60)), b'{"refresh":{"expires":true,"ttl":60}}'),
    ],
)
def test_a_push_never_has_an_id_and_names_its_channel_if_it_has_one(push: Push, wire: bytes) -> None:
    assert JSON.encode_reply(Reply(push=push)) == b'{"push":%b}' % wire


def test_who_published_is_always_named_in_full() -> None:
    publication = Publication(data=Raw(b"1"), info=ClientInfo(client="c"))
    assert b'"info":{"user":"","client":"c"}' in JSON.encode_reply(Reply(push=Push(channel="a", pub=publication)))


def test_what_a_client_leaves_out_has_its_zero_value() -> None:
    (command,) = JSON.decode_commands(b'{"id":1,"subscribe":{}}')
    assert command == Command(id=1, subscribe=SubscribeRequest())


def test_data_that_is_null_is_given_and_data_that_is_absent_is_not() -> None:
    (given, absent) = JSON.decode_commands(b'{"id":1,"rpc":{"data":null}}\n{"id":2,"rpc":{}}')
    assert given.rpc is not None
    assert absent.rpc is not None
    assert given.rpc.data == Raw(b"null")
    assert absent.rpc.data is msgspec.UNSET
