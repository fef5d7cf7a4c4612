"""Handlers that tests point the configuration at."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.backend import (
    ConnectContext,
    ConnectResult,
    DisconnectContext,
    Refused,
    RpcContext,
    RpcResult,
    SubscribeContext,
    SubscribeResult,
)

NOT_A_CLASS = 1


class Everything:
    """Does what the client asks for in `data`."""

    async def on_connect(self, context: ConnectContext) -> ConnectResult:
        return ConnectResult(user=f"user-of-{context.headers.get('cookie', '')}", info={"via": "handler"})

    async def on_rpc(self, context: RpcContext) -> Any:
        match context.method:
            case "echo":
                return RpcResult(data=context.json())
            case "refuse":
                raise Refused(404, "no such thing", temporary=True)
            case "bad code":
                raise Refused(5, "not a code")
            case "nothing":
                return None
            case "unwritable":
                return RpcResult(data=object())
            case "cancels itself":
                raise asyncio.CancelledError
            case "sleep":
                await asyncio.Event().wait()
        raise KeyError("cannot do that")

    async def on_subscribe(self, context: SubscribeContext) -> SubscribeResult:
        raise RuntimeError(f"saw {context.token}")


class Started:
    def __init__(self) -> None:
        self.life: list[str] = []

    async def start(self) -> None:
        self.life.append("started")

    async def aclose(self) -> None:
        self.life.append("closed")

    async def on_disconnect(self, context: DisconnectContext) -> None:
        self.life.append(context.user)


class NotStarted(Started):
    async def start(self) -> None:
        raise OSError("no database")


class Unclosed(Started):
    async def aclose(self) -> None:
        raise OSError("stuck")


class NeedsArguments:
    def __init__(self, database: object) -> None: ...


class Blocking:
    def on_rpc(self, context: RpcContext) -> RpcResult:
        return RpcResult()


class Misspelt:
    async def on_rcp(self, context: RpcContext) -> RpcResult:
        return RpcResult()


class Nothing:
    pass
