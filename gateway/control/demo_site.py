"""`/demo`: pages to try the gateway with, and tokens for whoever opens it. Only there when `control.demo` is on.

The pages' files lie beside this module and are served as they are: no build step, nothing from other servers. Tokens
are handed out without a password, so only pages of this very server get them (`guard`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway import __version__
from gateway.control import answers
from gateway.control.answers import RequestError
from gateway.control.api import read_body
from gateway.control.assets import content_security_policy, load_assets
from gateway.control.guard import HostRules, check_same_origin
from protocol import WEBSOCKET_PATH
from protocol.codes import BAD_REQUEST, NOT_AVAILABLE

TOKEN_TTL_S: Final = 3600.0
NAME_CHARACTERS: Final = 32
MAX_REQUEST_BYTES: Final = 1024

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


class _User(msgspec.Struct):
    user: str = ""


def demo_router(sign: Sign | None, hosts: HostRules, *, websocket_port: int) -> APIRouter:
    """The page, its configuration and its tokens. `sign` is None when this gateway has no secret to sign with."""
    router = APIRouter(prefix="/demo", tags=["demo"])
    assets = load_assets("demo")

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
            user = _user_of(await read_body(request, MAX_REQUEST_BYTES))
            return answers.Answer(msgspec.json.encode(_token_reply(user, sign)))
        except RequestError as problem:
            return answers.refusal(problem)

    @router.get("/{name:path}", include_in_schema=False)
    async def asset(request: Request, name: str) -> Response:
        found = assets.get(name or "index.html") or assets.get(f"{name}.html")
        if found is None:
            return Response("There is no such file in the demo.\n", 404, media_type="text/plain")
        return found.answer(request, content_security_policy(request.headers.get("host", ""), websocket_port))

    return router


def _token_reply(user: str, sign: Sign | None) -> dict[str, object]:
    if sign is None:
        raise RequestError(503, NOT_AVAILABLE, "auth.hmac_secret is not set: there is nothing to sign tokens with")
    return {"token": sign(user, TOKEN_TTL_S), "ttl": int(TOKEN_TTL_S)}


def _user_of(body: bytes) -> str:
    try:
        return user_name(msgspec.json.decode(body, type=_User).user)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(400, BAD_REQUEST, 'the body must be a JSON object like {"user": "ada"}') from error


def user_name(text: str) -> str:
    """The name of a visitor. Raises RequestError (400) unless people can read it."""
    user = unicodedata.normalize("NFC", text.strip())
    if not 1 <= len(user) <= NAME_CHARACTERS:
        raise RequestError(400, BAD_REQUEST, f"user: a name has 1 to {NAME_CHARACTERS} characters")
    if not user.isprintable():
        raise RequestError(400, BAD_REQUEST, "user: a name has printable characters only")
    return user
