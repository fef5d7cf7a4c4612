"""Calls over HTTP, against a real server: shapes, bounds, retries, the circuit breaker."""

from __future__ import annotations

import asyncio
import base64
import socket
from typing import Any

import pytest
from msgspec import Raw

from gateway.backend import (
    ConnectContext,
    Disconnected,
    PublishContext,
    RefreshContext,
    Refused,
    RpcContext,
    SubRefreshContext,
    SubscribeContext,
)
from gateway.errors import BackendUnavailable
from gateway.metrics import names
from tests.backend.conftest import World
from tests.support.backend import Answer, Asked, BackendServer, HangUp
from tests.support.waiting import wait_until

RPC = RpcContext(client="c1", user="ada", method="m", data=Raw(b"1"))
SUBSCRIBE = SubscribeContext(client="c1", user="ada", channel="x")


def answering(server: BackendServer, *answers: Any) -> None:
    """One after the other, the last for ever. An exception is raised."""
    left = list(answers)

    async def respond(_asked: Asked) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    server.respond = respond


async def test_requests_have_the_shapes_of_the_contract(world: World, server: BackendServer) -> None:
    events = ("connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc")
    hooks = await world.hooks(
        **{f"{event}_url": server.url(event) for event in events},
        static_headers={"Authorization": "Bearer gateway"},
        send_meta=True,
    )
    backend: Any = hooks.backend
    answering(server, {"result": {}})
    meta, headers = Raw(b'{"plan":"pro"}'), {"cookie": "a=1", "authorization": "of the client"}
    who: dict[str, Any] = {"client": "c1", "user": "ada", "meta": meta, "headers": headers}
    await backend.on_connect(
        ConnectContext(client="c1", headers=headers, name="js", version="5", data=Raw(b'{"a":1}'), channels=("x",))
    )
    await backend.on_refresh(RefreshContext(**who))
    await backend.on_subscribe(SubscribeContext(**who, channel="x", token="t", data=Raw(b"[1]")))
    await backend.on_sub_refresh(SubRefreshContext(**who, channel="x"))
    await backend.on_publish(PublishContext(**who, channel="x", data=Raw(b'"hi"')))
    await backend.on_rpc(RpcContext(**who, method="m", data=Raw(b'{"$binary":"AP8="}'), protocol="protobuf"))
    base = {"client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json"}
    known = base | {"user": "ada", "meta": {"plan": "pro"}}
    assert [asked.body for asked in server.asked] == [
        base | {"name": "js", "version": "5", "data": {"a": 1}, "channels": ["x"]},
        known,
        known | {"channel": "x", "token": "t", "data": [1]},
        known | {"channel": "x"},
        known | {"channel": "x", "data": "hi"},
        known
        | {"protocol": "protobuf", "encoding": "binary", "method": "m"}
        | {"b64data": base64.b64encode(b"\x00\xff").decode()},
    ]
    for asked in server.asked:
        assert asked.headers["cookie"] == "a=1"
        assert asked.headers["authorization"] == "Bearer gateway", "the gateway's own wins"
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["accept-encoding"] == "identity"
    assert server.connections == 1, "the connection is used again"


async def test_meta_stays_here_unless_it_is_asked_for(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("rpc"))).backend
    answering(server, {"result": {}})
    await backend.on_rpc(RpcContext(client="c1", user="ada", method="m", meta=Raw(b"1")))
    assert "meta" not in server.asked[0].body
    assert not backend.wants_meta


async def test_results_are_read(world: World, server: BackendServer) -> None:
    backend: Any = (
        await world.hooks(connect_url=server.url("c"), publish_url=server.url("p"), rpc_url=server.url("r"))
    ).backend
    subs = {"x": {"data": {"n": 1}, "override": {"presence": {"value": True}}}, "y": {}}
    encoded = base64.b64encode(b'{"from": "base64"}').decode()
    answering(
        server,
        {"result": {"user": "ada", "expire_at": 2_000_000_000, "info": {"a": "\n"}, "b64data": encoded}}
        | {"unknown": "is ignored"},
        {"result": {"user": "ada", "expire_at": 0, "channels": ["a"], "subs": subs, "meta": {"m": 1}, "info": None}},
        {"result": {"data": [1], "skip_history": True, "tags": {"a": "b"}, "idempotency_key": "k", "version": 7}},
        {"result": {}},
    )
    first = await backend.on_connect(ConnectContext(client="c"))
    assert (first.user, first.expire_at, bytes(first.data)) == ("ada", 2_000_000_000, b'{"from": "base64"}')
    assert bytes(first.info) == b'{"a": "\\n"}'
    second = await backend.on_connect(ConnectContext(client="c"))
    assert (second.expire_at, second.info, second.channels, bytes(second.meta)) == (None, None, ("a",), b'{"m": 1}')
    assert bytes(second.subs["x"].data) == b'{"n": 1}'
    assert second.subs["x"].override.presence.value
    assert second.subs["y"].data is None
    publish = await backend.on_publish(PublishContext(client="c", channel="x", data=Raw(b"0")))
    assert (bytes(publish.data), publish.skip_history, publish.tags) == (b"[1]", True, {"a": "b"})
    assert (publish.idempotency_key, publish.version) == ("k", 7)
    assert (await backend.on_rpc(RPC)).data is None


async def test_errors_and_disconnects_are_answers(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("rpc"), breaker_failures=1)).backend
    answering(
        server,
        {"error": {"code": 1000, "message": "no", "temporary": True}},
        {"disconnect": {"code": 4500, "reason": "bye"}},
        {"result": {"data": 1}},
    )
    with pytest.raises(Refused) as refused:
        await backend.on_rpc(RPC)
    assert (refused.value.code, refused.value.message, refused.value.temporary) == (1000, "no", True)
    with pytest.raises(Disconnected) as disconnected:
        await backend.on_rpc(RPC)
    assert (disconnected.value.code, disconnected.value.reason) == (4500, "bye")
    assert bytes((await backend.on_rpc(RPC)).data) == b"1"


GARBAGE = [
    b"",
    b"<html>",
    b"[]",
    b"\xff\xfe",
    b"{}",
    b'{"result": null}',
    b'{"result": {"user": 5}}',
    b'{"result": {"b64info": "%%%"}}',
    b'{"result": {"expire_at": "tomorrow"}}',
    b'{"result": {"subs": {"x": {"override": {"presence": true}}}}}',
    b'{"error": {"code": 5, "message": "not a code"}}',
    b'{"error": {"message": "no code"}}',
    b'{"disconnect": {"code": 1000, "reason": "not ours"}}',
    b'{"disconnect": {"code": 4000, "reason": "' + b"x" * 124 + b'"}}',
    b'{"result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: body[:40].decode(errors="replace"))
async def test_garbage_is_a_failure_that_opens_no_circuit(world: World, server: BackendServer, body: bytes) -> None:
    backend: Any = (await world.hooks(connect_url=server.url("connect"), breaker_failures=1)).backend
    answering(server, body, {"result": {"user": "ada"}})
    with pytest.raises(BackendUnavailable, match="not what was agreed"):
        await backend.on_connect(ConnectContext(client="c"))
    assert (await backend.on_connect(ConnectContext(client="c"))).user == "ada"
    assert world.counters[names.BACKEND_FAILED] == 1
    assert world.counters[names.BACKEND_CIRCUITS] == 0


async def test_a_huge_answer_is_not_read_to_its_end(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("rpc"), answer_bytes=2048, timeout_s=20)).backend
    answering(server, b'{"result": {"data": "' + b"x" * 50_000_000 + b'"}}', {"result": {"data": "x" * 2000}})
    with pytest.raises(BackendUnavailable, match="larger than 2048 bytes"):
        await backend.on_rpc(RPC)
    assert len(bytes((await backend.on_rpc(RPC)).data)) == 2002


async def test_a_compressed_answer_is_not_unpacked(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("rpc"))).backend
    answering(server, Answer(b"\x1f\x8b", headers=("Content-Encoding: gzip",)))
    with pytest.raises(BackendUnavailable, match="compressed"):
        await backend.on_rpc(RPC)


async def test_a_slow_answer_is_late_and_others_go_on(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("r"), subscribe_url=server.url("s"), timeout_s=0.2)).backend

    async def respond(asked: Asked) -> Any:
        if asked.path == "/r":
            await asyncio.Event().wait()
        return {"result": {}}

    server.respond = respond
    slow = asyncio.ensure_future(backend.on_rpc(RPC))
    await backend.on_subscribe(SUBSCRIBE)
    assert not slow.done()
    with pytest.raises(BackendUnavailable, match=r"no answer within 0\.2 s"):
        await slow
    assert world.counters[names.BACKEND_LATE] == 1


@pytest.mark.parametrize("failure", [HangUp(), Answer({}, 502), Answer({}, 503), Answer({}, 504)], ids=repr)
async def test_what_only_asks_is_tried_once_more_and_what_does_something_is_not(
    world: World, server: BackendServer, failure: Any
) -> None:
    backend: Any = (
        await world.hooks(subscribe_url=server.url("s"), rpc_url=server.url("r"), publish_url=server.url("p"))
    ).backend
    answering(server, failure, {"result": {}})
    await backend.on_subscribe(SUBSCRIBE)
    assert (len(server.bodies("s")), world.counters[names.BACKEND_RETRIES]) == (2, 1)
    answering(server, failure)
    with pytest.raises(BackendUnavailable):
        await backend.on_subscribe(SUBSCRIBE)
    assert len(server.bodies("s")) == 4
    for ask, context in (
        (backend.on_rpc, RPC),
        (backend.on_publish, PublishContext(client="c", channel="x", data=Raw(b"1"))),
    ):
        with pytest.raises(BackendUnavailable):
            await ask(context)
    assert (len(server.bodies("r")), len(server.bodies("p"))) == (1, 1)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 301])
async def test_other_statuses_are_not_tried_again(world: World, server: BackendServer, status: int) -> None:
    backend: Any = (await world.hooks(subscribe_url=server.url("s"))).backend
    answering(server, Answer({"result": {}}, status, headers=("Location: /elsewhere",)))
    with pytest.raises(BackendUnavailable, match=f"status {status}"):
        await backend.on_subscribe(SUBSCRIBE)
    assert [asked.path for asked in server.asked] == ["/s"]


async def test_without_a_connection_even_rpc_is_tried_again(world: World) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        backend: Any = (await world.hooks(rpc_url=f"http://127.0.0.1:{port}/")).backend
        with pytest.raises(BackendUnavailable, match="no connection"):
            await backend.on_rpc(RPC)
    assert world.counters[names.BACKEND_RETRIES] == 1


async def test_the_circuit_opens_stays_open_tries_and_closes(world: World, server: BackendServer) -> None:
    backend: Any = (
        await world.hooks(
            rpc_url=server.url("r"), subscribe_url=server.url("s"), breaker_failures=3, breaker_open_s=5.0
        )
    ).backend

    async def respond(asked: Asked) -> Any:
        return Answer({}, 500) if asked.path == "/r" else {"result": {}}

    server.respond = respond
    for _ in range(6):
        with pytest.raises(BackendUnavailable):
            await backend.on_rpc(RPC)
    assert len(server.bodies("r")) == 3, "then it is left alone"
    assert world.counters[names.BACKEND_OPEN] == 3
    await backend.on_subscribe(SUBSCRIBE)
    world.clock.advance(5)
    answering(server, {"result": {"data": 1}})
    assert bytes((await backend.on_rpc(RPC)).data) == b"1"
    assert world.counters[names.BACKEND_CIRCUITS] == 1
    told = [line["event"] for line in world.capture.entries if line["event"] != "backend call failed"]
    assert told == ["backend is left alone for a while", "backend answers again"]


async def test_failures_are_logged_a_few_times_and_counted_always(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("r"))).backend
    answering(server, b"garbage")
    for _ in range(20):
        with pytest.raises(BackendUnavailable):
            await backend.on_rpc(RPC)
    assert len(world.capture.entries) == 1
    world.clock.advance(11)
    with pytest.raises(BackendUnavailable):
        await backend.on_rpc(RPC)
    assert world.capture.entries[1]["not_logged"] == 19
    assert world.counters[names.BACKEND_FAILED] == 21


async def test_a_call_that_nobody_waits_for_is_broken_off(world: World, server: BackendServer) -> None:
    backend: Any = (await world.hooks(rpc_url=server.url("r"), timeout_s=30, calls_at_once=1)).backend

    async def respond(asked: Asked) -> Any:
        if len(server.asked) == 1:
            await asyncio.Event().wait()
        return {"result": {}}

    server.respond = respond
    call = asyncio.ensure_future(backend.on_rpc(RPC))
    await wait_until(lambda: server.asked, "the call arrives")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await backend.on_rpc(RPC)
    assert world.counters[names.BACKEND_FAILED] == 0
