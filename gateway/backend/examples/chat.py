"""Handlers of a chat: who may come in, which rooms they may join, what they may write, and a method to call.

    [backend]
    handlers = "gateway.backend.examples.chat:Chat"
    headers = ["cookie"]

    [namespaces.room]
    subscribe_by = "backend"
    publish_by = "backend"

Clients connect without a token; the cookie of the web application (`session=…`) says who they are.
"""

from __future__ import annotations

import time
from collections import deque
from http.cookies import CookieError, SimpleCookie

from gateway.backend import (
    ConnectContext,
    ConnectResult,
    DisconnectContext,
    Disconnected,
    PublishContext,
    PublishResult,
    RefreshContext,
    RefreshResult,
    Refused,
    RpcContext,
    RpcResult,
    SubscribeContext,
    SubscribeResult,
)

SESSION_S = 15 * 60.0


class Chat:
    """One object in each worker. Here the "database" is a dict; use an asynchronous driver for a real one."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.members: dict[str, set[str]] = {}
        self.gone: deque[str] = deque(maxlen=100)

    async def start(self) -> None:
        """Open connections to databases here; `aclose` closes them."""
        self.sessions = {"s-ada": "ada", "s-bob": "bob", "s-banned": "mallory"}
        self.members = {"room:tea": {"ada", "bob"}, "room:lab": {"ada"}}

    async def on_connect(self, context: ConnectContext) -> ConnectResult:
        user = self._user(context.headers.get("cookie", ""))
        if user is None:
            raise Refused(401, "log in first")
        if user == "mallory":
            raise Disconnected(4501, "banned")
        return ConnectResult(user=user, info={"name": user.title()}, expire_at=time.time() + SESSION_S)

    async def on_refresh(self, context: RefreshContext) -> RefreshResult:
        """Called some time before `expire_at`; the client notices nothing."""
        if context.user not in self.sessions.values():
            return RefreshResult(expired=True)
        return RefreshResult(expire_at=time.time() + SESSION_S)

    async def on_subscribe(self, context: SubscribeContext) -> SubscribeResult:
        if context.user not in self.members.get(context.channel, ()):
            raise Refused(403, "not a member of this room")
        return SubscribeResult(data={"members": sorted(self.members[context.channel])})

    async def on_publish(self, context: PublishContext) -> PublishResult:
        message = context.json()
        if not isinstance(message, dict) or not isinstance(message.get("text"), str):
            raise Refused(400, "write {text: …}")
        return PublishResult(data={"text": message["text"].strip(), "from": context.user}, tags={"kind": "chat"})

    async def on_rpc(self, context: RpcContext) -> RpcResult:
        if context.method != "rooms":
            raise Refused(104, "method not found")
        return RpcResult(data=sorted(room for room, members in self.members.items() if context.user in members))

    async def on_disconnect(self, context: DisconnectContext) -> None:
        self.gone.append(context.user)

    def _user(self, cookie: str) -> str | None:
        try:
            session = SimpleCookie(cookie).get("session")
        except CookieError:
            return None
        return self.sessions.get(session.value) if session is not None else None
