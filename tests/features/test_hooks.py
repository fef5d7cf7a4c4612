"""Hooks into the backend with a whole gateway: Python handlers and HTTP endpoints, asked by real clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.processes import child_environment
from loadtest.bench.processes import free_port
from tests.features.conftest import OpenClient
from tests.support.backend import Answer, Asked, BackendServer
from tests.support.client import Client
from tests.support.gateway import Gateway, serving, to_toml, with_defaults
from tests.support.waiting import DEADLINE_S, POLL_INTERVAL_S, wait_until

EVENTS = ("connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc")
ROOM = {"room": {"subscribe_by": "backend", "publish_by": "backend"}}


# Python handlers.


@pytest.fixture(scope="module")
def chat() -> Iterator[Gateway]:
    """The example, as a user would run it."""
    backend = {"handlers": "gateway.backend.examples.chat:Chat", "headers": ["cookie"]}
    with serving({"backend": backend, "namespaces": ROOM}) as gateway:
        yield gateway


async def enter(chat: Gateway, cookie: str) -> Client:
    return await Client.open(chat.url, additional_headers={"Cookie": cookie})


async def test_handlers_decide_who_comes_in(chat: Gateway) -> None:
    ada = await enter(chat, "theme=dark; session=s-ada")
    connected = await ada.connect()
    assert "expires" not in connected
    stranger = await enter(chat, "session=unknown")
    assert await stranger.error(connect={}) == {"code": 401, "message": "log in first"}
    banned = await enter(chat, "session=s-banned")
    await banned.post({"connect": {}})
    assert await banned.wait_closed() == (4501, "banned")
    with_token = await enter(chat, "")
    await with_token.connect(chat.token("eve"))
    for client in (ada, stranger, with_token):
        await client.aclose()


async def test_handlers_decide_about_rooms_and_what_is_written_in_them(chat: Gateway) -> None:
    ada, bob = await enter(chat, "session=s-ada"), await enter(chat, "session=s-bob")
    await ada.connect()
    await bob.connect()
    assert await ada.subscribe("room:tea") == {"data": {"members": ["ada", "bob"]}}
    await bob.subscribe("room:tea")
    assert await bob.error(subscribe={"channel": "room:lab"}) == {"code": 403, "message": "not a member of this room"}
    await bob.call(publish={"channel": "room:tea", "data": {"text": " hello "}})
    assert await ada.wait_data("room:tea") == [{"text": "hello", "from": "bob"}]
    (publication,) = ada.publications("room:tea")
    assert publication["tags"] == {"kind": "chat"}
    assert publication["info"]["conn_info"] == {"name": "Bob"}
    assert (await bob.error(publish={"channel": "room:tea", "data": 5}))["code"] == 400
    assert await ada.call(rpc={"method": "rooms"}) == {"data": ["room:lab", "room:tea"]}
    assert (await ada.error(rpc={"method": "other"}))["code"] == 104
    await ada.aclose()
    await bob.aclose()


def test_handlers_that_cannot_be_imported_are_said_at_the_start() -> None:
    config = with_defaults({"backend": {"handlers": "no_such_package.hooks:Hooks"}})
    with tempfile.NamedTemporaryFile("w", prefix="gateway-", suffix=".toml") as file:
        file.write(to_toml(config))
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "serve", "--config", file.name],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode != 0
    assert "[backend] handlers: there is no module 'no_such_package'" in done.stderr


# HTTP.


@pytest.fixture(scope="module")
def backend_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(backend_port: int) -> Iterator[Gateway]:
    backend = {f"{event}_url": f"http://127.0.0.1:{backend_port}/{event}" for event in EVENTS}
    more = {"headers": ["cookie"], "breaker_open_s": 0.1, "static_headers": {"Authorization": "Bearer gateway"}}
    config = {
        "backend": backend | more,
        "namespaces": ROOM | {"log": {"publish_by": "backend", "history_size": 10, "history_ttl_s": 60.0}},
        "keepalive": {"ping_interval_s": 1.0, "pong_timeout_s": 0.9},
    }
    with serving(config) as gateway:
        yield gateway


@pytest.fixture
async def server(backend_port: int) -> AsyncIterator[BackendServer]:
    server = BackendServer()
    server.port = backend_port
    await server.open()
    yield server
    await server.aclose()


@pytest.fixture
def results(server: BackendServer) -> dict[str, Any]:
    """Event → what the backend answers: a reply, or a function of the request."""
    replies: dict[str, Any] = {}

    async def respond(asked: Asked) -> Any:
        reply = replies.get(asked.path[1:], {"result": {}})
        return await reply(asked) if callable(reply) else reply

    server.respond = respond
    return replies


async def test_endpoints_decide_who_comes_in(
    gateway: Gateway, open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    results["connect"] = {"result": {"user": "ada", "data": {"hello": 1}, "channels": ["team"], "info": {"n": 1}}}
    client = await open_client(None, additional_headers={"Cookie": "a=1", "X-Other": "2"})
    connected = await client.connect(data={"want": "in"}, name="js", version="5")
    assert connected["data"] == {"hello": 1}
    assert connected["subs"].keys() == {"@all", "#ada", "team"}
    (asked,) = server.asked
    assert asked.body == {
        "client": client.id,
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
        "name": "js",
        "version": "5",
        "data": {"want": "in"},
    }
    assert asked.headers["cookie"] == "a=1"
    assert asked.headers["authorization"] == "Bearer gateway"
    assert "x-other" not in asked.headers
    assert gateway.publish("team", "hi") == 1
    assert await client.wait_data("team") == ["hi"]


async def test_endpoints_decide_about_subscriptions_publications_and_calls(
    open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    results["subscribe"] = {"result": {"data": {"topic": "tea"}}}
    results["publish"] = {"result": {"data": {"clean": True}, "tags": {"k": "v"}}}
    results["rpc"] = {"result": {"data": [1, 2]}}
    client = await open_client("ada")
    assert await client.subscribe("room:tea", data={"as": "guest"}) == {"data": {"topic": "tea"}}
    await client.call(publish={"channel": "room:tea", "data": "raw"})
    assert await client.wait_data("room:tea") == [{"clean": True}]
    assert await client.call(rpc={"method": "sum", "data": {"of": [1]}}) == {"data": [1, 2]}
    known = {"client": client.id, "user": "ada", "transport": "websocket", "protocol": "json", "encoding": "json"}
    assert [asked.body for asked in server.asked] == [
        known | {"channel": "room:tea", "data": {"as": "guest"}},
        known | {"channel": "room:tea", "data": "raw"},
        known | {"method": "sum", "data": {"of": [1]}},
    ]
    results["subscribe"] = {"error": {"code": 1403, "message": "no"}}
    assert await client.error(subscribe={"channel": "room:lab"}) == {"code": 1403, "message": "no"}
    results["rpc"] = {"disconnect": {"code": 4500, "reason": "enough"}}
    await client.post({"rpc": {}})
    assert await client.wait_closed() == (4500, "enough")


async def test_a_publication_may_be_kept_once_or_not_at_all(
    open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    client = await open_client("ada")
    await client.subscribe("log:x")
    results["publish"] = {"result": {"idempotency_key": "k1"}}
    for _ in range(2):
        await client.call(publish={"channel": "log:x", "data": "once"})
    results["publish"] = {"result": {"skip_history": True}}
    await client.call(publish={"channel": "log:x", "data": "passing"})
    assert await client.wait_data("log:x", 2) == ["once", "passing"]
    history = await client.call(history={"channel": "log:x", "limit": -1})
    assert [each["data"] for each in history["publications"]] == ["once"]


async def test_the_gateway_refreshes_by_asking_and_the_client_notices_nothing(
    open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    results["connect"] = {"result": {"user": "ada", "expire_at": time.time() + 1}}
    results["refresh"] = {"result": {"expire_at": 4_000_000_000}}
    client = await open_client(None)
    assert "expires" not in await client.connect()
    await wait_until(lambda: server.bodies("refresh"), "it asks")
    assert server.bodies("refresh")[0]["user"] == "ada"
    results["subscribe"] = {"result": {"expire_at": time.time() + 1}}
    results["sub_refresh"] = {"result": {"expired": True}}
    await client.subscribe("room:tea")
    await client.wait(lambda: [push for push in client.pushes if "unsubscribe" in push], "the subscription ends")
    assert server.bodies("sub_refresh")[0]["channel"] == "room:tea"
    assert len(server.bodies("refresh")) == 1
    assert client.open_still


async def works(client: Client) -> None:
    """Call until it succeeds."""
    async with asyncio.timeout(DEADLINE_S):
        while "error" in await client.command(rpc={}):
            await asyncio.sleep(POLL_INTERVAL_S)


async def test_a_backend_that_is_away_is_a_temporary_error_and_back_is_back(
    gateway: Gateway, open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    results["rpc"] = {"result": {"data": 1}}
    client = await open_client("ada")
    await client.call(rpc={})
    await server.aclose()
    for _ in range(8):
        assert await client.error(rpc={}) == {"code": 100, "message": "internal server error", "temporary": True}
    assert gateway.metric("gateway_backend_calls_total", result="circuit_open") > 0
    assert gateway.metric("gateway_backend_circuits_opened_total") >= 1
    await server.open()
    await works(client)
    assert await client.call(rpc={}) == {"data": 1}


@pytest.mark.parametrize("answer", [Answer({}, 500), b"<html>", {"result": {"data": "x" * 2_000_000}}], ids=repr)
async def test_a_broken_backend_is_a_temporary_error_for_its_client_alone(
    gateway: Gateway, open_client: OpenClient, server: BackendServer, results: dict[str, Any], answer: Any
) -> None:
    results["subscribe"] = answer
    client = await open_client("ada")
    assert (await client.error(subscribe={"channel": "room:tea"}))["code"] == 100
    await client.subscribe("news")
    gateway.publish("news", 1)
    assert await client.wait_data("news") == [1]


async def test_a_slow_call_holds_up_nobody_else_and_its_own_client_in_order(
    gateway: Gateway, open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    release = asyncio.Event()

    async def slow(_asked: Asked) -> Any:
        await release.wait()
        return {"result": {"data": "at last"}}

    results["rpc"] = slow
    waiting, other = await open_client("ada"), await open_client("bob")
    replies = await waiting.post({"rpc": {}}, {"subscribe": {"channel": "news"}})
    await wait_until(lambda: server.bodies("rpc"), "the call is under way")
    await other.subscribe("news")
    assert gateway.publish("news", 1) == 1
    assert await other.wait_data("news") == [1]
    assert not any(reply.done() for reply in replies)
    release.set()
    first = await asyncio.wait_for(replies[0], DEADLINE_S)
    second = await asyncio.wait_for(replies[1], DEADLINE_S)
    # On a slow machine the release may come after the time-out of a second: then the call has failed, in order too.
    assert first.get("rpc", {"data": "at last"}) == {"data": "at last"}
    assert "subscribe" in second
    assert waiting.data("news") == []


async def test_clients_that_go_take_their_calls_along(
    gateway: Gateway, open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    results["connect"] = {"result": {"user": "ada"}}
    results["rpc"] = lambda _asked: asyncio.Event().wait()
    for _ in range(10):
        client = await open_client("ada")
        await client.post({"rpc": {}})
        await wait_until(lambda: server.bodies("rpc"), "the call is under way")
        await client.aclose()
    results["rpc"] = {"result": {}}
    client = await open_client("ada")
    await works(client)  # late answers may have opened the circuit for a moment


async def test_listed_headers_are_kept_however_the_request_was_read(
    gateway: Gateway, open_client: OpenClient, server: BackendServer, results: dict[str, Any]
) -> None:
    results["connect"] = {"result": {"user": "ada"}}
    # A request of more than 8 KiB is read by the library instead of our own reader.
    for padding in ("", "x" * 5000):
        more = {f"X-Padding-{n}": padding for n in range(2)}
        client = await open_client(None, additional_headers={"COOKIE": "a=1"} | more)
        await client.connect()
    assert [asked.headers["cookie"] for asked in server.asked] == ["a=1", "a=1"]
