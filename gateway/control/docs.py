"""`/docs`: the API for people, one page made from the OpenAPI document. No script, and nothing from other servers.

The style sheet stands in the page, and its content security policy names the digest of just that.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Response

from protocol.codes import ERRORS

STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--dim:#777}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem}
h3{font-size:1rem;margin-bottom:.3rem}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{border:1px solid var(--line);border-radius:6px;padding:.7rem;overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line)}
nav a{display:inline-block;margin-right:1rem}.dim{color:var(--dim)}
"""
POLICY: Final = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FIRST: Final = ("channel", "channels", "user")
"""Fields that come first, whatever the order of the structs."""
ERROR_MEANINGS: Final = {
    100: "Redis does not answer, or not every worker did; the same call may work a moment later",
    102: "the namespace of the channel is not configured",
    103: "the API key may not do that",
    104: "there is no such method",
    106: "the answer would be too large",
    107: "the request is wrong; the message begins with the name of the field",
    108: "the channel, or this version, has not what is asked for",
    111: "too much waits for Redis; try again",
    112: "the log has begun anew since that position",
}


def docs_router(openapi_url: str, document: Callable[[], dict[str, Any]], port: int) -> APIRouter:
    """The page. `document` gives the OpenAPI document; `port`: for the examples."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = "\n".join(render(document(), openapi_url, f"http://localhost:{port}"))
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(page, media_type="text/html", headers=headers)

    return router


def render(document: dict[str, Any], openapi_url: str, address: str) -> Iterator[str]:
    """The lines of the page."""
    schemas = document["components"]["schemas"]
    title = f"{escape(document['info']['title'])} {escape(document['info']['version'])}"
    methods = {path.rpartition("/")[2]: item["post"] for path, item in document["paths"].items() if "/api/" in path}
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: HTTP API</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body><h1>{title}: HTTP API</h1>"
    yield (
        "<p><code>POST /api/&lt;method&gt;</code> with a JSON object and the header <code>X-API-Key</code>. The answer "
        'has status 200 and is <code>{"result": …}</code> or <code>{"error": {"code", "message"}}</code>; with the '
        "header <code>X-Centrifugo-Error-Mode: transport</code>, errors are statuses. Status 401: no valid key; 413: "
        "the body is too large. Fields that are not listed are ignored. "
        f'<a href="{escape(openapi_url)}">OpenAPI document</a></p>'
    )
    yield "<nav>" + " ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in methods) + "</nav>"
    for name, operation in methods.items():
        yield from _method(name, operation, schemas, address)
    yield '<h2 id="errors">Errors</h2><table><tr><th>code</th><th>message</th><th>means</th></tr>'
    for code, meaning in ERROR_MEANINGS.items():
        yield f"<tr><td>{code}</td><td>{escape(ERRORS[code].message)}</td><td>{escape(meaning)}</td></tr>"
    yield "</table></body></html>"


def _method(name: str, operation: dict[str, Any], schemas: dict[str, Any], address: str) -> Iterator[str]:
    content = operation["requestBody"]["content"]["application/json"]
    result = operation["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"][0]
    result = result.get("properties", {}).get("result", result)
    example = json.dumps(content["example"], ensure_ascii=False).replace("'", "'\\''")
    yield f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{escape(operation["summary"])}.</p>'
    call = f"curl -H \"X-API-Key: $KEY\" -d '{example}' {address}/api/{name}"
    yield f"<pre>{escape(call)}</pre>"
    yield from _fields("Request", content["schema"], schemas)
    yield from _fields("Result", result, schemas)


def _fields(heading: str, reference: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """A struct as a table, nested ones with dotted names."""
    rows = list(_rows("", _resolved(reference, schemas), schemas))
    if not rows:
        yield f"<h3>{heading}</h3><p>An empty object.</p>"
        return
    default = "<th>default</th>" if heading == "Request" else ""
    yield f"<h3>{heading}</h3><table><tr><th>field</th><th>type</th>{default}<th></th></tr>"
    for name, kind, value, description in rows:
        cell = f"<td><code>{escape(value)}</code></td>" if default else ""
        yield (
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td>{cell}"
            f'<td class="dim">{escape(description)}</td></tr>'
        )
    yield "</table>"


def _rows(prefix: str, schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    properties = schema.get("properties", {})
    for name in sorted(properties, key=lambda name: name not in FIRST):
        field = properties[name]
        default = json.dumps(field["default"]) if "default" in field else ""
        yield prefix + name, _kind(field, schemas), default, field.get("description", "")
        inner, mark = _inner(field)
        if inner:
            yield from _rows(f"{prefix}{name}{mark}.", _resolved(inner, schemas), schemas)


def _inner(field: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The struct that a field holds, and how its fields are reached from there; {} = none."""
    for each in (field, *field.get("anyOf", ()), *field.get("allOf", ())):
        if "$ref" in each:
            return each, ""
        if "$ref" in each.get("items", {}):
            return each["items"], "[]"
        if isinstance(more := each.get("additionalProperties"), dict) and "$ref" in more:
            return more, "{}"
    return {}, ""


def _kind(field: dict[str, Any], schemas: dict[str, Any]) -> str:
    """The type of a field in a word or two."""
    if "anyOf" in field:
        kinds = dict.fromkeys(_kind(each, schemas) for each in field["anyOf"])
        return " or ".join(kind for kind in kinds if kind != "null")
    if "$ref" in field or "allOf" in field:
        return "object"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), schemas)}"
    if field.get("type") == "object" and isinstance(more := field.get("additionalProperties"), dict):
        return f"object of {_kind(more, schemas)}"
    return str(field.get("type", "any JSON"))


def _resolved(reference: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    name = reference.get("$ref", "").rpartition("/")[2]
    return schemas[name] if name else reference
