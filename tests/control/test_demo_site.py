"""The files of the demo page, and who gets tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.control.conftest import Control

FILES = {
    "index.html": "text/html",
    "ask.html": "text/html",
    "ask": "text/html",
    "ask.js": "text/javascript",
    "ask.css": "text/css",
    "answers.js": "text/javascript",
    "server.js": "text/javascript",
    "demo.js": "text/javascript",
    "client.js": "text/javascript",
    "lists.js": "text/javascript",
    "words.js": "text/javascript",
    "demo.css": "text/css",
    "favicon.svg": "image/svg+xml",
}


@pytest.fixture
def site(make_control: Callable[..., Control]) -> Control:
    return make_control(server={"workers": 1, "port": 8123}, control={"demo": True})


@pytest.fixture
async def page(site: Control) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client(key=None) as client:
        yield client


async def test_demo_is_off_unless_configured(client: httpx.AsyncClient) -> None:
    for path in ("/demo", "/demo/", "/demo/config.json"):
        assert (await client.get(path)).status_code == 404
    assert (await client.post("/demo/token", json={"user": "ada"})).status_code == 404


@pytest.mark.parametrize(("name", "content_type"), FILES.items())
async def test_files_have_their_types_and_are_revalidated(
    page: httpx.AsyncClient, name: str, content_type: str
) -> None:
    answer = await page.get(f"/demo/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.headers["cache-control"] == "no-cache"
    again = await page.get(f"/demo/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_page_is_at_demo(page: httpx.AsyncClient) -> None:
    redirect = await page.get("/demo")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "demo/")
    assert (await page.get("/demo/")).content == (await page.get("/demo/index.html")).content


@pytest.mark.parametrize("path", ["..%2Fapp.py", "../app.py", "%2e%2e/app.py", "nothing.js", "sub/demo.js"])
async def test_nothing_else_is_served(page: httpx.AsyncClient, path: str) -> None:
    assert (await page.get(f"/demo/{path}")).status_code == 404


async def test_page_runs_no_inline_script_and_loads_nothing_from_elsewhere(page: httpx.AsyncClient) -> None:
    answer = await page.get("/demo/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "connect-src 'self' ws://127.0.0.1:8123 wss://127.0.0.1:8123;" in policy
    assert "unsafe" not in policy
    for name in FILES:
        text = (await page.get(f"/demo/{name}")).text.replace("http://www.w3.org/", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
        assert " style=" not in text


async def test_policy_names_the_host_that_was_asked_for(page: httpx.AsyncClient) -> None:
    policy = (await page.get("/demo/", headers={"Host": "localhost:9000"})).headers["content-security-policy"]
    assert "ws://localhost:8123" in policy
    policy = (await page.get("/demo/", headers={"Host": "[::1]:9000"})).headers["content-security-policy"]
    assert "ws://*:8123" in policy


async def test_page_learns_the_public_port(page: httpx.AsyncClient) -> None:
    config = (await page.get("/demo/config.json")).json()
    assert config["websocket_port"] == 8123
    assert config["websocket_path"] == "/connection/websocket"


async def test_token_for_a_name(site: Control, page: httpx.AsyncClient) -> None:
    answer = await page.post("/demo/token", json={"user": "  Ada "})
    assert answer.json() == {"token": "token-of-Ada", "ttl": 3600}
    assert answer.headers["cache-control"] == "no-store"
    assert site.signed == [("Ada", 3600.0)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"user":7}',
        b'{"user":""}',
        b'{"user":"   "}',
        b'{"user":"%s"}' % (b"x" * 33),
        b'{"user":"a\\u0000b"}',
        b'{"user":"a\\u202eb"}',
        b'{"user":"\xff"}',
    ],
)
async def test_name_that_people_cannot_read_gets_no_token(site: Control, page: httpx.AsyncClient, body: bytes) -> None:
    answer = await page.post("/demo/token", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert site.signed == []


async def test_token_request_is_small(page: httpx.AsyncClient) -> None:
    assert (await page.post("/demo/token", content=b'{"user":"' + b"x" * 2000)).status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:8123"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9000"},
    ],
)
async def test_foreign_pages_get_no_token(site: Control, page: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await page.post("/demo/token", json={"user": "ada"}, headers=headers)
    assert answer.status_code == 403
    assert site.signed == []


async def test_rebound_name_gets_no_token(site: Control) -> None:
    async with site.client("evil.example:9000", key=None) as client:
        headers = {"Origin": "http://evil.example:9000", "Sec-Fetch-Site": "same-origin"}
        assert (await client.post("/demo/token", json={"user": "ada"}, headers=headers)).status_code == 421


async def test_own_page_gets_its_token(page: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://127.0.0.1:9000", "Sec-Fetch-Site": "same-origin"}
    assert (await page.post("/demo/token", json={"user": "ada"}, headers=headers)).status_code == 200
