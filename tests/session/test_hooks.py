"""A session and its backend: what is asked when, with what, and what the client is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from gateway.backend import (
    Backend,
    ConnectResult,
    Context,
    Disconnected,
    Override,
    PublishResult,
    RefreshResult,
    Refused,
    RpcResult,
    SubRefreshResult,
    SubscribeResult,
    Toggle,
)
from gateway.errors import BackendUnavailable
from tests.support.hub import turn
from tests.support.session import Client, SessionWorld

BY_BACKEND = {"default": {"subscribe_by": "backend", "publish_by": "backend"}}
DONE = object()


class Scripted:
    """A backend that answers what a test says: a result, an exception, or a future of one."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        self.told: list[Any] = []

    def backend(self, *, told: bool = False) -> Backend:
        hooks: dict[str, Any] = {f"on_{event}": self._hook(event) for event in self.answers}
        return Backend(**hooks, on_disconnect=self.told.append if told else None, wants_meta=True)

    def _hook(self, event: str) -> Any:
        async def hook(context: Context) -> Any:
            self.asked.append((event, context))
            answer = self.answers[event]
            if callable(answer):
                answer = answer(context)
            if isinstance(answer, asyncio.Future):
                answer = await answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return hook

    def contexts(self, event: str) -> list[Any]:
        return [context for name, context in self.asked if name == event]


def make(scripted: Scripted, *, told: bool = False, **sections: Any) -> SessionWorld:
    return SessionWorld(backend=scripted.backend(told=told), **({"namespaces": BY_BACKEND} | sections))


async def connect(world: SessionWorld, **request: Any) -> tuple[Client, dict[str, Any]]:
    client = world.client()
    client.outlet.headers = {"cookie": "a=1"}
    reply = await client.ask(connect=request)
    return client, reply


async def answered(client: Client, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes when the backend and Redis have answered: they take several turns of the loop."""
    answers = await client.frame(*commands)
    await turn(20)
    await client.world.settle()
    return answers + client.news()


# Connect.


async def test_without_a_token_the_backend_says_who_it_is() -> None:
    result = ConnectResult(
        user="ada",
        info=Raw(b'{"name":"Ada"}'),
        data=Raw(b'{"hello":1}'),
        channels=("team",),
        subs={"offers": SubscribeResult(data=Raw(b"2"), override=Override(presence=Toggle(True)))},
        meta=Raw(b'{"plan":"pro"}'),
    )
    scripted = Scripted(connect=result, rpc=RpcResult())
    world = make(scripted)
    client, reply = await connect(world, data={"want": "in"}, name="js", version="5", subs={"team": {}})
    connected = reply["connect"]
    (asked,) = scripted.contexts("connect")
    assert (asked.client, asked.name, asked.version, asked.channels) == (connected["client"], "js", "5", ("team",))
    assert (asked.json(), asked.headers, asked.protocol) == ({"want": "in"}, {"cookie": "a=1"}, "json")
    assert connected["data"] == {"hello": 1}
    assert connected["subs"].keys() == {"@all", "#ada", "team", "offers"}
    assert connected["subs"]["offers"]["data"] == 2
    assert "expires" not in connected
    assert client.session.user == "ada"
    await client.ask(rpc={"method": "m"})
    (called,) = scripted.contexts("rpc")
    assert (called.user, bytes(called.meta)) == ("ada", b'{"plan":"pro"}')


async def test_with_a_token_the_token_says_it_and_its_meta_is_kept() -> None:
    scripted = Scripted(connect=ConnectResult(user="eve"), rpc=RpcResult())
    client = await make(scripted).connected("ada", meta={"m": 1})
    assert client.session.user == "ada"
    await client.ask(rpc={"method": "m"})
    assert [name for name, _ in scripted.asked] == ["rpc"]
    assert bytes(scripted.contexts("rpc")[0].meta) == b'{"m":1}'


async def test_insecure_asks_nobody_who_it_is() -> None:
    scripted = Scripted(connect=BackendUnavailable(), subscribe=BackendUnavailable(), publish=BackendUnavailable())
    world = make(scripted, auth={"insecure": True})
    client, reply = await connect(world)
    assert "connect" in reply
    assert "subscribe" in await client.ask(subscribe={"channel": "x"})
    assert "publish" in await client.ask(publish={"channel": "x", "data": 1})
    assert scripted.asked == []


async def test_a_client_without_user_needs_anonymous() -> None:
    client, reply = await _closing(make(Scripted(connect=ConnectResult())))
    assert (client.closed, reply) == (3500, [])
    client, answer = await connect(make(Scripted(connect=ConnectResult()), auth={"anonymous": True}))
    assert "connect" in answer


async def _closing(world: SessionWorld) -> tuple[Client, Any]:
    client = world.client()
    return client, await client.frame({"id": 1, "connect": {}})


async def test_a_refused_client_is_told_and_its_other_commands_are_forgotten() -> None:
    world = make(Scripted(connect=Refused(1000, "log in", temporary=True), subscribe=SubscribeResult()))
    client = world.client()
    answers = await client.frame({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "x"}})
    assert answers == [{"id": 1, "error": {"code": 1000, "message": "log in", "temporary": True}}]


@pytest.mark.parametrize("failure", [BackendUnavailable(), asyncio.CancelledError()], ids=repr)
async def test_a_backend_without_an_answer_is_error_100(failure: BaseException) -> None:
    _, reply = await connect(make(Scripted(connect=failure)))
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}


async def test_a_code_of_the_protocol_keeps_its_meaning() -> None:
    _, reply = await connect(make(Scripted(connect=Refused(111, ""))))
    assert reply["error"] == {"code": 111, "message": "too many requests", "temporary": True}


async def test_a_disconnect_closes_with_its_code() -> None:
    client, _ = await _closing(make(Scripted(connect=Disconnected(4501, "banned"))))
    assert client.outlet.closed is not None
    assert tuple(client.outlet.closed) == (4501, "banned")


async def test_a_channel_that_cannot_be_is_the_backends_mistake() -> None:
    client, reply = await connect(make(Scripted(connect=ConnectResult(user="ada", channels=("no:such",)))))
    assert reply["error"]["code"] == 100
    assert client.closed is None


async def test_data_that_is_no_json_document_is_not_passed_on() -> None:
    scripted = Scripted(rpc=RpcResult())
    client = await make(scripted).connected()
    answers = await client.frame({"id": 9, "rpc": {"method": "m", "data": 1}})
    assert answers == [{"id": 9, "rpc": {}}]
    from protocol.encodings import JSON

    client.session.receive(JSON.decode_commands(b'{"id":10,"rpc":{"data":1e999}}'))
    await client.world.settle()
    assert client.news()[0]["error"]["code"] == 107
    assert len(scripted.asked) == 1


# Subscribe.


async def test_the_backend_allows_and_refuses_subscriptions_in_one_frame() -> None:
    def answer(context: Any) -> Any:
        if context.channel == "no":
            return Refused(403, "not yours")
        return SubscribeResult(info=Raw(b'{"seat":1}'), data=Raw(b'"hi"'))

    scripted = Scripted(subscribe=answer)
    client = await make(scripted).connected()
    answers = await answered(
        client,
        {"id": 2, "subscribe": {"channel": "a", "token": "whatever", "data": {"k": 1}}},
        {"id": 3, "subscribe": {"channel": "no"}},
        {"id": 4, "subscribe": {"channel": "$private"}},
    )
    by_id = {answer["id"]: answer for answer in answers}
    assert by_id[2]["subscribe"] == {"data": "hi"}
    assert by_id[3]["error"] == {"code": 403, "message": "not yours"}
    assert by_id[4]["subscribe"] == {"data": "hi"}
    first = scripted.contexts("subscribe")[0]
    assert (first.channel, first.token, first.json(), first.user) == ("a", "whatever", {"k": 1}, "42")
    assert bytes(client.session.subscriptions["a"].info or b"") == b'{"seat":1}'
    assert client.session.subscriptions.keys() == {"@all", "#42", "a", "$private"}


async def test_our_own_gates_come_first() -> None:
    scripted = Scripted(subscribe=SubscribeResult(), publish=PublishResult())
    client = await make(scripted).connected()
    for channel in ("dialog#1,2", "@everyone"):
        assert (await client.ask(subscribe={"channel": channel}))["error"]["code"] == 103
        assert (await client.ask(publish={"channel": channel, "data": 1}))["error"]["code"] == 103
    assert (await client.ask(publish={"channel": "$private", "data": 1}))["error"]["code"] == 103
    assert scripted.asked == []


async def test_other_namespaces_are_not_the_backends() -> None:
    scripted = Scripted(subscribe=Refused(403, "no"), publish=Refused(403, "no"))
    client = await make(scripted, namespaces={"default": {"publish_by": "anyone"}}).connected()
    assert "subscribe" in await client.ask(subscribe={"channel": "a"})
    assert "publish" in await client.ask(publish={"channel": "a", "data": 1})
    assert scripted.asked == []


async def test_many_subscriptions_of_one_client_are_asked_a_few_at_a_time() -> None:
    release = asyncio.get_running_loop().create_future()
    scripted = Scripted(subscribe=release)
    world = make(scripted)
    client = await world.connected()
    await client.frame(*({"id": n, "subscribe": {"channel": f"c{n}"}} for n in range(2, 32)))
    await turn(20)
    assert len(scripted.asked) == 8
    release.set_result(SubscribeResult())
    await turn(40)
    await world.settle()
    assert len(client.session.subscriptions) == 32


async def test_without_the_hook_the_namespace_is_closed() -> None:
    client = await make(Scripted(rpc=RpcResult())).connected()
    assert (await client.ask(subscribe={"channel": "a"}))["error"]["code"] == 108
    assert (await client.ask(publish={"channel": "a", "data": 1}))["error"]["code"] == 108


# Publish and rpc.


async def test_the_backend_changes_a_publication() -> None:
    scripted = Scripted(publish=PublishResult(data=Raw(b'"better"'), tags={"by": "backend"}))
    world = make(scripted)
    client = await world.connected()
    assert "publish" in await client.ask(publish={"channel": "x", "data": "draft"})
    assert scripted.contexts("publish")[0].json() == "draft"
    ((channel, payload),) = world.broker.published
    assert channel == b"gw:pub:x"
    head, data = payload.split(b"\n")
    assert data == b'"better"'
    assert b'"tags":{"by":"backend"}' in head


async def test_an_idempotency_key_without_history_is_not_ignored() -> None:
    world = make(Scripted(publish=PublishResult(idempotency_key="k")))
    client = await world.connected()
    assert (await client.ask(publish={"channel": "x", "data": 1}))["error"]["code"] == 108
    assert world.broker.published == []


async def test_rpc_without_a_backend_is_not_available() -> None:
    client = await SessionWorld().connected()
    assert (await client.ask(rpc={"method": "m"}))["error"]["code"] == 108


async def test_commands_wait_in_order_behind_a_call_and_other_clients_do_not() -> None:
    release = asyncio.get_running_loop().create_future()
    scripted = Scripted(rpc=release)
    world = make(scripted, namespaces={})
    client, other = await world.connected(), await world.connected("7")
    assert await client.frame({"id": 2, "rpc": {"method": "m"}}, {"id": 3, "subscribe": {"channel": "a"}}) == []
    assert await client.frame({"id": 4, "ping": {}}) == []
    assert "subscribe" in await other.ask(subscribe={"channel": "a"})
    release.set_result(RpcResult(data=Raw(b"[1]")))
    await turn(10)
    await world.settle()
    answers = client.news()
    assert [answer["id"] for answer in answers] == [2, 3, 4]
    assert answers[0]["rpc"] == {"data": [1]}


async def test_a_client_that_goes_takes_its_call_along() -> None:
    release: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    world = make(Scripted(rpc=release), namespaces={})
    client = await world.connected()
    await client.frame({"id": 2, "rpc": {"method": "m"}})
    client.session.closed("connection lost")
    await turn(4)
    assert release.cancelled()
    assert client.news() == []


async def test_a_call_that_has_not_begun_when_the_client_goes_is_never_made() -> None:
    scripted = Scripted(rpc=RpcResult())
    client = await make(scripted, namespaces={}).connected()
    from protocol.encodings import JSON

    client.session.receive(JSON.decode_commands(b'{"id":2,"rpc":{"method":"m"}}'))
    client.session.closed("connection lost")
    await turn(4)
    assert scripted.asked == []


# Refresh.


async def test_the_gateway_refreshes_what_the_backend_let_in() -> None:
    scripted = Scripted(
        connect=lambda _: ConnectResult(user="ada", expire_at=world.clock.time() + 60, meta=Raw(b"1")),
        refresh=lambda _: RefreshResult(expire_at=world.clock.time() + 90, info=Raw(b'{"new":1}'), meta=Raw(b"2")),
        rpc=RpcResult(),
    )
    world = make(scripted)
    client, reply = await connect(world)
    assert "expires" not in reply["connect"]
    client.session.check_expiry()
    await turn(4)
    assert scripted.contexts("refresh") == [], "not yet"
    world.clock.advance(50)
    client.session.check_expiry()
    client.session.check_expiry()
    await turn(4)
    (asked,) = scripted.contexts("refresh")
    assert (asked.client, asked.user, bytes(asked.meta)) == (reply["connect"]["client"], "ada", b"1")
    assert client.session.expires_at == world.clock.time() + 90
    assert bytes(client.session.info or b"") == b'{"new":1}'
    assert client.news() == []
    await client.ask(rpc={})
    assert bytes(scripted.contexts("rpc")[0].meta) == b"2"


@pytest.mark.parametrize(
    ("answer", "code"), [(RefreshResult(expired=True), 3005), (Disconnected(4444, "out"), 4444)], ids=repr
)
async def test_a_refresh_can_end_the_connection(answer: Any, code: int) -> None:
    scripted = Scripted(connect=lambda _: ConnectResult(user="ada", expire_at=world.clock.time() + 1), refresh=answer)
    world = make(scripted)
    client, _ = await connect(world)
    client.session.check_expiry()
    await turn(4)
    assert client.closed == code


async def test_a_failed_refresh_is_tried_with_the_next_ping_until_the_time_is_over() -> None:
    scripted = Scripted(
        connect=lambda _: ConnectResult(user="ada", expire_at=world.clock.time() + 1), refresh=BackendUnavailable()
    )
    world = make(scripted)
    client, _ = await connect(world)
    for asked in (1, 2):
        client.session.check_expiry()
        await turn(4)
        assert len(scripted.contexts("refresh")) == asked
        assert client.closed is None
    world.clock.advance(27)
    client.session.check_expiry()
    assert client.closed == 3005


async def test_without_refresh_a_connection_of_the_backend_ends() -> None:
    scripted = Scripted(connect=lambda _: ConnectResult(user="ada", expire_at=world.clock.time() + 1))
    world = make(scripted)
    client, reply = await connect(world)
    assert "expires" not in reply["connect"]
    world.clock.advance(27)
    client.session.check_expiry()
    assert client.closed == 3005


async def test_connections_with_a_token_are_refreshed_by_a_token() -> None:
    scripted = Scripted(refresh=RefreshResult())
    client = await make(scripted).connected("ada", ttl_s=10)
    client.session.check_expiry()
    await turn(4)
    assert scripted.asked == []


async def test_the_gateway_refreshes_subscriptions_of_the_backend() -> None:
    answers: dict[str, Any] = {"a": SubRefreshResult(expired=True), "b": SubRefreshResult(info=Raw(b"7"))}
    scripted = Scripted(
        subscribe=lambda _: SubscribeResult(expire_at=world.clock.time() + 10),
        sub_refresh=lambda context: answers[context.channel],
    )
    world = make(scripted)
    client = await world.connected()
    for channel in ("a", "b"):
        assert await answered(client, {"id": 7, "subscribe": {"channel": channel}}) == [{"id": 7, "subscribe": {}}]
    client.session.check_expiry()
    await turn(6)
    assert {context.channel for context in scripted.contexts("sub_refresh")} == {"a", "b"}
    assert client.news() == [{"push": {"channel": "a", "unsubscribe": {"code": 2501, "reason": "expired"}}}]
    assert client.session.subscriptions["b"].expires_at is None
    assert bytes(client.session.subscriptions["b"].info or b"") == b"7"


async def test_a_client_that_goes_is_refreshed_no_more() -> None:
    release: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    scripted = Scripted(connect=lambda _: ConnectResult(user="ada", expire_at=world.clock.time() + 1), refresh=release)
    world = make(scripted)
    client, _ = await connect(world)
    client.session.check_expiry()
    await turn(4)
    client.session.closed("gone")
    await turn(4)
    assert release.cancelled()


# The end.


async def test_the_backend_is_told_of_clients_that_were_connected() -> None:
    scripted = Scripted()
    world = make(scripted, told=True)
    never, client, kicked = world.client(), await world.connected("ada"), await world.connected("bob")
    from protocol.codes import FORCE_DISCONNECT

    never.session.closed("gone")
    client.session.closed("connection lost")
    kicked.session.disconnect(FORCE_DISCONNECT)
    assert [(told.user, told.code, told.reason) for told in scripted.told] == [
        ("ada", 3000, "connection lost"),
        ("bob", 3503, "force disconnect"),
    ]
    assert [told.client for told in scripted.told] == [client.session.client, kicked.session.client]
