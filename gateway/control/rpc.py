"""`rpc`: not available; there is nothing behind the gateway yet that would answer."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from gateway.control.answers import ApiError
from gateway.control.fields import DataField
from gateway.control.methods import Method
from protocol.codes import NOT_AVAILABLE


class RpcRequest(msgspec.Struct):
    """A call."""

    method: str = ""
    params: DataField = UNSET


class RpcResult(msgspec.Struct):
    """Its answer."""

    data: DataField = UNSET


def rpc_method() -> Method[RpcRequest]:
    """`rpc`."""

    async def rpc(_request: RpcRequest) -> RpcResult:
        raise ApiError(NOT_AVAILABLE, "method: this gateway has no methods of its own to call")

    return Method(
        "rpc", "Not available in this version (error 108)", RpcRequest, RpcResult, rpc, example='{"method": "time"}'
    )
