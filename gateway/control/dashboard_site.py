"""`/` and `/dashboard/…`: the page, who may see it, the state, the actions.

The page's files lie beside this module and are served as they are: no build step, nothing from other servers. They are
open to everybody and say nothing; all else needs a session or a key (`dashboard_login`). Every action is logged with
who did it. The rule that is easiest to break: what changes something is POST, and passes the check for foreign pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from gateway import __version__
from gateway.config import Config
from gateway.control import answers
from gateway.control.answers import Answer, ApiError, RequestError
from gateway.control.api import BODY_RESERVE_BYTES, read_body
from gateway.control.assets import content_security_policy, load_assets
from gateway.control.dashboard_actions import Actions
from gateway.control.dashboard_live import Dashboard
from gateway.control.dashboard_login import Logins
from gateway.control.methods import Method
from gateway.log import get_logger
from protocol import WEBSOCKET_PATH
from protocol.codes import BAD_REQUEST, NOT_AVAILABLE

MAX_LOGIN_BYTES: Final = 4096
MAX_LOGGED: Final = 256
"""Characters of what an operator has entered that go into a log line."""

Handler = Callable[[Request], Awaitable[Response]]


class _Key(msgspec.Struct):
    key: str = ""


def dashboard_router(dashboard: Dashboard, logins: Logins, actions: Actions, config: Config) -> APIRouter:
    """All of it."""
    router = APIRouter(tags=["dashboard"])
    log = get_logger()
    assets = {**load_assets("dashboard"), "client.js": load_assets("demo")["client.js"]}
    port = config.server.port
    found = {"port": port, "path": WEBSOCKET_PATH, "tls": bool(config.server.tls_cert)}
    websocket = found if dashboard.is_published and not logins.open else None

    async def page(request: Request) -> Response:
        return assets["index.html"].answer(request, content_security_policy(request.headers.get("host", ""), port))

    async def asset(request: Request) -> Response:
        found = assets.get(request.path_params["name"])
        if found is None:
            return Response("There is no such file in the dashboard.\n", 404, media_type="text/plain")
        return found.answer(request, content_security_policy(request.headers.get("host", ""), port))

    async def session(request: Request) -> Response:
        access = "open" if logins.open else "nobody" if logins.closed else "key"
        try:
            logins.visitor(request)
        except RequestError as problem:
            if problem.status != 401:
                raise
            signed_in = False
        else:
            signed_in = True
        found = {"access": access, "signed_in": signed_in, "version": __version__, "websocket": websocket}
        return Answer(msgspec.json.encode(found))

    async def login(request: Request) -> Response:
        body = await read_body(request, MAX_LOGIN_BYTES)
        try:
            key = msgspec.json.decode(body, type=_Key).key
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise RequestError(400, BAD_REQUEST, 'the body must be a JSON object like {"key": "…"}') from None
        answer = Answer(b"{}")
        try:
            visitor = logins.log_in(request, key, answer)
        except RequestError as problem:
            log.warning("dashboard login refused", peer=_peer(request), reason=problem.message)
            raise
        log.info("dashboard login", who=visitor.name, peer=_peer(request))
        return answer

    async def logout(request: Request) -> Response:
        answer = Answer(b"{}")
        visitor = logins.log_out(request, answer)
        if visitor is not None:
            dashboard.forget(visitor.session)
            log.info("dashboard logout", who=visitor.name)
        return answer

    async def state(request: Request) -> Response:
        if logins.visitor(request).session:
            dashboard.somebody_looks()
        return Answer(dashboard.document())

    async def curves(request: Request) -> Response:
        logins.visitor(request)
        return Answer(msgspec.json.encode(dashboard.curves()))

    async def ticket(request: Request) -> Response:
        visitor = logins.visitor(request)
        found = dashboard.ticket(visitor.session) if visitor.session else None
        if found is None:
            reason = "there is no WebSocket for this page: it needs auth.hmac_secret and a login; ask for the state"
            raise RequestError(503, NOT_AVAILABLE, reason)
        return Answer(msgspec.json.encode(found))

    def action(method: Method[Any], max_bytes: int) -> Handler:
        async def act(request: Request) -> Response:
            visitor = logins.visitor(request)
            body = await read_body(request, max_bytes)
            what = _described(method, body)
            try:
                document = await method.answer(body, None)
            except ApiError as problem:
                log.warning("dashboard action failed", who=visitor.name, reason=problem.message, **what)
                raise
            log.info("dashboard action", who=visitor.name, **what)
            return answers.result(document)

        return act

    def add(verb: str, path: str, handler: Handler, summary: str = "") -> None:
        router.add_api_route(
            path,
            _guarded(handler),
            methods=[verb],
            summary=summary or None,
            include_in_schema=bool(summary),
            response_class=Response,
        )

    add("GET", "/", page)
    add("GET", "/dashboard/session", session)
    add("POST", "/dashboard/login", login)
    add("POST", "/dashboard/logout", logout)
    add("GET", "/dashboard/state", state, "What the dashboard shows, as one document (full API key, or a session)")
    add("GET", "/dashboard/curves", curves, "Rates of the last five minutes")
    add("POST", "/dashboard/ticket", ticket)
    add("POST", "/dashboard/disconnect", action(actions.disconnect, BODY_RESERVE_BYTES))
    add("POST", "/dashboard/publish", action(actions.publish, config.limits.publication_bytes + BODY_RESERVE_BYTES))
    add("POST", "/dashboard/drain", action(actions.drain, BODY_RESERVE_BYTES))
    add("GET", "/dashboard/{name:path}", asset)
    return router


def _guarded(handler: Handler) -> Handler:
    """Refusals and errors as the API answers them, but always with a status."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as problem:
            return answers.refusal(problem)
        except ApiError as problem:
            return answers.error(problem, transport=True)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it

    return answer


def _described(method: Method[Any], body: bytes) -> dict[str, str]:
    """What is done, for the log: whom or what it concerns, never what is published. Raises ApiError (107)."""
    request = method.decode(body)
    named = {name: str(getattr(request, name, ""))[:MAX_LOGGED] for name in ("user", "channel", "worker")}
    return {"action": method.name} | {name: value for name, value in named.items() if value}


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""
