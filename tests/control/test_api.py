"""Keys, bodies, error modes: what is the same for every method."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.control.conftest import KEY, OTHER_KEY, Control

GOOD = b'{"channel":"news","data":{"a":1}}'


async def test_call_without_a_key_is_refused_and_told_which_header(control: Control) -> None:
    async with control.client(key=None) as client:
        answer = await client.post("/api/publish", content=GOOD)
    assert answer.status_code == 401
    assert answer.json() == {"error": {"code": 101, "message": "the header X-API-Key is missing"}}
    assert answer.headers["content-type"] == "application/json"
    assert control.redis.published == []


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], KEY + "x", KEY.upper(), "schlüssel-0123456789"])
async def test_wrong_key_is_refused(control: Control, key: str) -> None:
    async with control.client(key=None) as client:
        answer = await client.post("/api/publish", content=GOOD, headers=[(b"X-API-Key", key.encode())])
    assert answer.status_code == 401
    assert "X-API-Key" in answer.json()["error"]["message"]
    assert control.redis.published == []


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
async def test_every_configured_key_works(control: Control, key: str) -> None:
    async with control.client(key=key) as client:
        assert (await client.post("/api/publish", content=GOOD)).json() == {"result": {}}


async def test_without_configured_keys_every_call_is_refused_and_told_so(make_control: Callable[..., Control]) -> None:
    async with make_control(control={}).client() as client:
        answer = await client.post("/api/publish", content=GOOD)
    assert answer.status_code == 401
    assert "control.api_keys" in answer.json()["error"]["message"]


async def test_insecure_mode_without_keys_lets_programs_in_but_no_foreign_page(
    make_control: Callable[..., Control],
) -> None:
    control = make_control(control={}, auth={"insecure": True})
    async with control.client(key=None) as client:
        assert (await client.post("/api/publish", content=GOOD)).json() == {"result": {}}
        foreign = await client.post("/api/publish", content=GOOD, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert len(control.redis.published) == 1


async def test_insecure_mode_still_asks_for_a_key_when_there_are_some(make_control: Callable[..., Control]) -> None:
    async with make_control(auth={"insecure": True}).client(key=None) as client:
        assert (await client.post("/api/publish", content=GOOD)).status_code == 401


async def test_unknown_method_is_error_104_for_callers_with_a_key_only(control: Control) -> None:
    async with control.client() as client:
        answer = await client.post("/api/no_such", content=b"{}")
    assert answer.status_code == 200
    assert answer.json() == {"error": {"code": 104, "message": "method not found: no_such"}}
    async with control.client(key=None) as client:
        assert (await client.post("/api/no_such", content=b"{}")).status_code == 401


async def test_methods_are_post_only(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/publish")).status_code == 405


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"hello", "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (b'{"channel":"news"', "body"),
        (GOOD + b"{}", "body"),
        (b'{"channel":"news","data":"\xff"}', "body"),
        (b'{"channel":"news","data":' + b"[" * 5000 + b"]" * 5000 + b"}", "body"),
        (b'{"channel":7,"data":1}', "channel"),
        (b'{"channel":"news","data":1,"tags":{"a":1}}', "tags"),
        (b'{"channel":"news","data":1,"skip_history":"yes"}', "skip_history"),
    ],
)
async def test_malformed_body_is_error_107_that_names_the_field(
    control: Control, client: httpx.AsyncClient, body: bytes, field: str
) -> None:
    answer = await client.post("/api/publish", content=body)
    assert answer.status_code == 200
    error = answer.json()["error"]
    assert error["code"] == 107
    assert error["message"].startswith(f"bad request: {field}")
    assert control.redis.published == []


async def test_transport_mode_turns_errors_into_statuses(client: httpx.AsyncClient) -> None:
    client.headers["X-Centrifugo-Error-Mode"] = "transport"
    answer = await client.post("/api/publish", content=b'{"data":1}')
    assert answer.status_code == 400
    assert answer.json() == {"code": 107, "message": "bad request: channel: is missing"}
    assert (await client.post("/api/publish", content=b'{"channel":"no:x","data":1}')).status_code == 404
    assert (await client.post("/api/no_such", content=b"{}")).status_code == 404
    assert (await client.post("/api/publish", content=GOOD)).json() == {"result": {}}


async def test_announced_body_over_the_limit_is_refused_before_it_is_read(make_control: Callable[..., Control]) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 1000

    control = make_control(limits={"publication_bytes": 2048})
    async with control.client() as client:
        announced = await client.post("/api/publish", content=b"x" * 6145)
        assert announced.status_code == 413
        assert "6144 bytes" in announced.json()["error"]["message"]
        chunked = await client.post("/api/publish", content=endless())
        assert chunked.status_code == 413
    assert read <= 7


async def test_nothing_of_a_body_is_read_without_a_key(control: Control) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("was read")
        yield b""

    async with control.client(key=None) as client:
        assert (await client.post("/api/publish", content=body())).status_code == 401


async def test_openapi_describes_the_method_and_its_key(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/api/publish"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    fields = document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
    assert set(fields) >= {"channel", "data"}
    assert operation["security"] == [{"apiKey": []}]
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"
    assert "/api/{name}" not in document["paths"]
