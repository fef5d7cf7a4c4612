"""`/docs` and the OpenAPI document behind it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import httpx

from gateway.config.keys import ApiMethod


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        self.loads += [values[name] or "" for name in ("src", "href") if name in values]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def methods() -> set[str]:
    return set(ApiMethod.__args__)  # type: ignore[attr-defined]


async def test_every_method_is_there_with_its_fields(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    page = Page()
    page.feed(answer.text)
    assert page.ids >= methods()
    assert page.open == []
    assert "idempotency_key" in answer.text


async def test_it_needs_no_script_and_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    page = Page()
    page.feed(answer.text)
    assert page.tags.isdisjoint({"script", "img", "link", "iframe"})
    assert all(not load.startswith(("http:", "https:", "//")) for load in page.loads)
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


async def test_the_openapi_document_has_every_method_and_no_loose_reference(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {path.removeprefix("/api/") for path in document["paths"] if path.startswith("/api/")} == methods()

    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*map(references, part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
