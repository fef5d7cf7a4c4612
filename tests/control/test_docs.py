"""The OpenAPI document and the page made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
import pytest

from gateway.control.batch import Batch
from gateway.control.catalogue import all_methods
from gateway.control.docs import ERROR_MEANINGS
from tests.control.conftest import Control


class Seen(HTMLParser):
    """Tags, ids and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/openapi.json")
    return dict(answer.json())


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_method_is_described_with_key_request_and_result(control: Control, document: dict[str, Any]) -> None:
    methods = all_methods(control.config, control.backends, control.clock)
    described = {path.removeprefix("/api/") for path in document["paths"] if path.startswith("/api/")}
    assert described == {method.name for method in methods} | {"batch"}
    for name in described:
        operation = document["paths"][f"/api/{name}"]["post"]
        assert operation["security"] == [{"apiKey": []}]
        assert operation["summary"]
        assert "example" in operation["requestBody"]["content"]["application/json"]
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"]
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert "#/components/schemas/PublishRequest" in found
    assert "#/components/schemas/Position" in found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


def test_fields_have_types_defaults_and_bounds(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    limit = schemas["HistoryRequest"]["properties"]["limit"]
    assert (limit["type"], limit["default"], limit["minimum"]) == ("integer", 0, -1)
    assert schemas["PublishRequest"]["properties"]["tags"]["additionalProperties"] == {"type": "string"}
    assert schemas["BroadcastResult"]["properties"]["responses"]["items"]["$ref"].endswith("/BroadcastResponse")


def test_every_example_is_a_request(control: Control) -> None:
    methods = all_methods(control.config, control.backends, control.clock)
    for method in (*methods, Batch(methods)):
        fields = {field.encode_name for field in msgspec.structs.fields(method.request)}
        assert json.loads(method.example).keys() <= fields
        msgspec.json.decode(method.example, type=method.request)


async def test_the_page_names_methods_fields_calls_and_errors(client: httpx.AsyncClient, document: Any) -> None:
    answer = await client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    page = Seen(answer.text)
    for path in document["paths"]:
        if path.startswith("/api/"):
            assert f"localhost:9000{path}" in page.text
            assert ("id", path.removeprefix("/api/")) in page.attributes
    for words in (
        "idempotency_key",
        "recover_since.offset",
        "disconnect.code",
        "publications[].info.user",
        "responses[].error.code",
        '{"channel": "news", "data": {"text": "hello"}}',
        "object of string",
        *(str(code) for code in ERROR_MEANINGS),
    ):
        assert words in page.text


async def test_the_page_runs_no_script_and_loads_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    page = Seen(answer.text)
    assert not page.tags & {"script", "link", "img", "iframe", "form", "object"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style")]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script" not in policy


async def test_the_policy_allows_the_pages_own_style(client: httpx.AsyncClient) -> None:
    import base64
    import hashlib

    answer = await client.get("/docs")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
