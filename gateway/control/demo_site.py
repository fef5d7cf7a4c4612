"""`/demo`: a page to try the gateway with, and tokens for whoever opens it. Only there when `control.demo` is on.

The page's files lie beside this module and are served as they are: no build step, nothing from other servers. Tokens
are handed out without a password, so only pages of this very server get them (`guard`).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from importlib import resources
from typing import Annotated, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway import __version__
from gateway.control import answers
from gateway.control.answers import RequestError
from gateway.control.api import read_body
from gateway.control.guard import HostRules, check_same_origin, host_name
from protocol import WEBSOCKET_PATH
from protocol.codes import BAD_REQUEST, NOT_AVAILABLE

TOKEN_TTL_S: Final = 3600.0
NAME_CHARACTERS: Final = 32
MAX_REQUEST_BYTES: Final = 1024
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

Sign = Callable[[str, float], str]
"""A connection token for a user, good for that many seconds."""


class DemoConfig(BaseModel):
    """What the page has to know."""

    websocket_port: int
    websocket_path: str = WEBSOCKET_PATH
    version: str = __version__


class TokenRequest(BaseModel):
    """Who the visitor wants to be."""

    user: Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]


class TokenReply(BaseModel):
    """A connection token."""

    token: str
    ttl: int
    """Seconds that the token is good for."""


class _Asset(NamedTuple):
    content: bytes
    content_type: str
    etag: str


class _User(msgspec.Struct):
    user: str = ""


def demo_router(sign: Sign | None, hosts: HostRules, *, websocket_port: int) -> APIRouter:
    """The page, its configuration and its tokens. `sign` is None when this gateway has no secret to sign with."""
    router = APIRouter(prefix="/demo", tags=["demo"])
    assets = _load_assets()

    @router.get("", include_in_schema=False)
    async def page() -> Response:
        return Response(status_code=307, headers={"location": "demo/"})  # relative: survives a proxy's path prefix

    @router.get("/config.json", summary="Where the page finds the WebSocket port")
    async def config(response: Response) -> DemoConfig:
        response.headers["cache-control"] = "no-store"
        return DemoConfig(websocket_port=websocket_port)

    @router.post(
        "/token",
        summary="A connection token for any name",
        response_model=TokenReply,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": TokenRequest.model_json_schema()}},
            }
        },
    )
    async def token(request: Request) -> Response:
        try:
            check_same_origin(request, hosts)
            user = _user_name(await read_body(request, MAX_REQUEST_BYTES))
            return answers.Answer(msgspec.json.encode(_token_reply(user, sign)))
        except RequestError as problem:
            return answers.refusal(problem)

    @router.get("/{name:path}", include_in_schema=False)
    async def asset(request: Request, name: str) -> Response:
        found = assets.get(name or "index.html")
        if found is None:
            return Response("There is no such file in the demo.\n", 404, media_type="text/plain")
        headers = {
            "etag": found.etag,
            "cache-control": "no-cache",
            "content-security-policy": content_security_policy(request.headers.get("host", ""), websocket_port),
        }
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, headers=headers | {"content-type": found.content_type})

    return router


def content_security_policy(host: str, websocket_port: int) -> str:
    """Only this server's files, and WebSockets to the public port on the page's own host."""
    name = host_name(host)
    if name.startswith("["):
        name = "*"  # CSP has no syntax for IPv6 addresses
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self' ws://{name}:{websocket_port} wss://{name}:{websocket_port}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _token_reply(user: str, sign: Sign | None) -> dict[str, object]:
    if sign is None:
        raise RequestError(503, NOT_AVAILABLE, "auth.hmac_secret is not set: there is nothing to sign tokens with")
    return {"token": sign(user, TOKEN_TTL_S), "ttl": int(TOKEN_TTL_S)}


def _user_name(body: bytes) -> str:
    """The name in a token request. Raises RequestError (400) unless people can read it."""
    try:
        user = msgspec.json.decode(body, type=_User).user.strip()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(400, BAD_REQUEST, 'the body must be a JSON object like {"user": "ada"}') from error
    user = unicodedata.normalize("NFC", user)
    if not 1 <= len(user) <= NAME_CHARACTERS:
        raise RequestError(400, BAD_REQUEST, f"user: a name has 1 to {NAME_CHARACTERS} characters")
    if not user.isprintable():
        raise RequestError(400, BAD_REQUEST, "user: a name has printable characters only")
    return user


def _load_assets() -> dict[str, _Asset]:
    """The files of the page, by name. Read once: nothing that a request says ever becomes a path."""
    assets = {}
    for file in resources.files("gateway.control").joinpath("demo").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in CONTENT_TYPES:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            assets[file.name] = _Asset(content, CONTENT_TYPES[suffix], etag)
    return assets
