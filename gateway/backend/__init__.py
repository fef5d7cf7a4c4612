"""Hooks into the backend: who may connect, subscribe and publish, what `rpc` answers. Import what a handler needs here.

    # chat.py; in the gateway's configuration: [backend] handlers = "chat:Handlers"
    from gateway.backend import ConnectContext, ConnectResult, Refused, RpcContext, RpcResult


    class Handlers:
        async def on_connect(self, context: ConnectContext) -> ConnectResult:
            user = await find_session(context.headers.get("cookie", ""))
            if user is None:
                raise Refused(401, "log in first")
            return ConnectResult(user=user)

        async def on_rpc(self, context: RpcContext) -> RpcResult:
            return RpcResult(data={"you sent": context.json()})

One object is made in each worker, without arguments; `async start()` and `async aclose()` are called if they are there.
The methods are `on_connect on_refresh on_subscribe on_sub_refresh on_publish on_rpc on_disconnect`; each takes the
context of its name and returns the result of its name, or raises `Refused` or `Disconnected`. They run on the event
loop that serves the clients: never block it. A whole example: `gateway/backend/examples/chat.py`.

The rule that is easiest to break: a handler that returns nothing has not agreed; the client gets error 100.
"""

from gateway.backend.hooks import (
    NOBODY,
    Backend,
    ConnectContext,
    ConnectResult,
    Context,
    DisconnectContext,
    Disconnected,
    Override,
    PublishContext,
    PublishResult,
    RefreshContext,
    RefreshResult,
    Refused,
    RpcContext,
    RpcResult,
    SubRefreshContext,
    SubRefreshResult,
    SubscribeContext,
    SubscribeResult,
    Toggle,
)
from gateway.backend.parts import Hooks

__all__ = [
    "NOBODY",
    "Backend",
    "ConnectContext",
    "ConnectResult",
    "Context",
    "DisconnectContext",
    "Disconnected",
    "Hooks",
    "Override",
    "PublishContext",
    "PublishResult",
    "RefreshContext",
    "RefreshResult",
    "Refused",
    "RpcContext",
    "RpcResult",
    "SubRefreshContext",
    "SubRefreshResult",
    "SubscribeContext",
    "SubscribeResult",
    "Toggle",
]
