"""`/docs`: the HTTP API as a page, made from the OpenAPI document.

No script and nothing from other servers: it works in networks without a way out, and under the strictest policy.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Response

from gateway.control.answers import STATUSES
from gateway.control.api import KEY_HEADER, MODE_HEADER
from protocol.codes import ERRORS

STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { margin: 2.5rem 0 0; font-family: ui-monospace, monospace; font-size: 1.15rem; }
p { margin: .25rem 0 .75rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
th { font-weight: 600; }
pre { overflow-x: auto; padding: .75rem; background: #8882; border-radius: .4rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
nav a { margin-right: .75rem; white-space: nowrap; }
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; frame-ancestors 'none'; base-uri 'none'"
_EXAMPLES: Final[Mapping[str, object]] = {
    "channel": "news",
    "channels": ["news", "chat:lobby"],
    "data": {"text": "hello"},
    "user": "42",
    "limit": 10,
    "pattern": "chat:*",
    "uid": "token-id",
    "commands": [{"publish": {"channel": "news", "data": 1}}, {"presence_stats": {"channel": "news"}}],
    "method": "greet",
    "params": {},
}
"""What a field holds in an example; others are left out."""

Json = Mapping[str, Any]


def docs_router(openapi: Callable[[], Json]) -> APIRouter:
    """The page."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = "\n".join(_page(openapi()))
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    return router


def _page(document: Json) -> Iterator[str]:
    calls = {path.rpartition("/")[2]: item["post"] for path, item in document["paths"].items() if "/api/" in path}
    title = f"{document['info']['title']} {document['info']['version']}: HTTP API"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
    yield (
        f"<p>Every call is <code>POST /api/&lt;method&gt;</code> with a JSON object and the header "
        f'<code>{KEY_HEADER}</code>. It is answered with <code>{{"result": …}}</code> or '
        f'<code>{{"error": {{"code", "message"}}}}</code>, both with status 200. With the header '
        f"<code>{MODE_HEADER}: transport</code> errors are statuses. The same as an "
        '<a href="openapi.json">OpenAPI document</a>; other paths: <a href="metrics">metrics</a>.</p>'
    )
    links = "".join(f'<a href="#{name}">{name}</a>' for name in (*calls, "errors"))
    yield f"<nav>{links}</nav>"
    schemas = document["components"]["schemas"]
    for name, call in calls.items():
        yield from _call(name, call, schemas)
    yield from _errors()
    yield "</body></html>"


def _call(name: str, call: Json, schemas: Json) -> Iterator[str]:
    request = _named(call["requestBody"]["content"]["application/json"]["schema"], schemas)
    answer = call["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"][0]
    result = _named(answer.get("properties", {}).get("result", answer), schemas)
    yield f'<h2 id="{name}">{name}</h2><p>{escape(call["summary"])}.</p>'
    yield from _fields("Request", request)
    example = {field: _EXAMPLES[field] for field in request.get("properties", {}) if field in _EXAMPLES}
    yield (
        f"<pre>curl -H '{KEY_HEADER}: …' -d '{escape(json.dumps(example), quote=False)}' "
        f"http://127.0.0.1:9000/api/{name}</pre>"
    )
    yield from _fields("Result", result)


def _named(schema: Json, schemas: Json) -> Json:
    reference = schema.get("$ref", "")
    return schemas[reference.rpartition("/")[2]] if reference else schema


def _fields(title: str, schema: Json) -> Iterator[str]:
    if text := schema.get("description"):
        yield f"<p>{title}: {escape(text)}</p>"
    properties = schema.get("properties", {})
    if not properties:
        yield f"<p>{title}: no fields.</p>"
        return
    yield f"<table><tr><th>{title}</th><th>Type</th><th>When absent</th></tr>"
    for field, each in properties.items():
        default = json.dumps(each["default"]) if "default" in each else "–"
        yield (
            f"<tr><td><code>{escape(field)}</code></td><td>{escape(_type(each))}</td>"
            f"<td><code>{escape(default)}</code></td></tr>"
        )
    yield "</table>"


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(kind or "any JSON")


def _errors() -> Iterator[str]:
    yield '<h2 id="errors">errors</h2><table><tr><th>Code</th><th>Meaning</th><th>Status in transport mode</th></tr>'
    for code, error in ERRORS.items():
        yield f"<tr><td>{code}</td><td>{escape(error.message)}</td><td>{STATUSES.get(code, 500)}</td></tr>"
    yield "</table>"
