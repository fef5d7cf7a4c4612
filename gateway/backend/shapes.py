"""The JSON of calls to a backend: shapes of Centrifugo's proxy (PROTOCOL, part 4), so that existing endpoints can stay.

    POST {"client": …, "transport": "websocket", "protocol": "json", "encoding": "json", "user": …, …}
    200  {"result": {…}}  or  {"error": {"code", "message"}}  or  {"disconnect": {"code", "reason"}}

Results of Python handlers pass through the same reader (`settle`), so both kinds of backend are held to one contract.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from gateway.backend.hooks import (
    ConnectResult,
    Context,
    Disconnected,
    Override,
    PublishResult,
    RefreshResult,
    Refused,
    RpcResult,
    SubRefreshResult,
    SubscribeResult,
)
from protocol.encodings.binary import as_document, unwrap
from protocol.encodings.json import json_line
from protocol.errors import DecodeError

R = TypeVar("R", ConnectResult, RefreshResult, SubscribeResult, SubRefreshResult, PublishResult, RpcResult)
NULL: Final = b"null"


class _Documents(msgspec.Struct, kw_only=True):
    """The parts of a result that are documents, each with its base64 twin, which wins."""

    info: Raw = Raw()
    b64info: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    meta: Raw = Raw()


class _Subscribe(_Documents, kw_only=True):
    override: Override | None = None
    expire_at: float | None = None


class _Connect(_Documents, kw_only=True):
    user: str | None = None
    expire_at: float | None = None
    channels: tuple[str, ...] | None = None
    subs: dict[str, _Subscribe | None] | None = None


class _Refresh(_Documents, kw_only=True):
    expired: bool = False
    expire_at: float | None = None


class _Publish(_Documents, kw_only=True):
    skip_history: bool = False
    tags: dict[str, str] | None = None
    idempotency_key: str = ""
    delta: bool = False
    version: int = 0
    version_epoch: str = ""


class _Error(msgspec.Struct):
    code: int
    message: str = ""
    temporary: bool = False


class _Disconnect(msgspec.Struct):
    code: int
    reason: str = ""


class _Reply(msgspec.Struct):
    result: Raw = Raw()
    error: _Error | None = None
    disconnect: _Disconnect | None = None


_WIRE: Final[Mapping[type, type[_Documents]]] = {
    ConnectResult: _Connect,
    RefreshResult: _Refresh,
    SubscribeResult: _Subscribe,
    SubRefreshResult: _Refresh,
    PublishResult: _Publish,
    RpcResult: _Documents,
}


def encode_request(context: Context, *, with_meta: bool) -> bytes:
    """The body of a call."""
    body: dict[str, Any] = {}
    for name in context.__struct_fields__:
        value = getattr(context, name)
        if name == "headers" or value is None or (name in ("user", "token", "name", "version") and not value):
            continue
        if name == "meta":
            if with_meta:
                body["meta"] = value
        elif name == "data" and (payload := unwrap(bytes(value))) != bytes(value):
            body["b64data"], body["encoding"] = b64encode(payload).decode(), "binary"
        elif name != "channels" or value:
            body[name] = value
    return msgspec.json.encode(body)


def decode_reply(kind: type[R], payload: bytes) -> R:
    """The result in a reply. Raises Refused and Disconnected when the reply says so, ValueError when it is none."""
    reply = msgspec.json.decode(payload, type=_Reply)
    if reply.error is not None:
        raise Refused(reply.error.code, reply.error.message, temporary=reply.error.temporary)
    if reply.disconnect is not None:
        raise Disconnected(reply.disconnect.code, reply.disconnect.reason)
    if bytes(reply.result) in (b"", NULL):
        raise ValueError("there is none of result, error and disconnect")
    return _read(kind, bytes(reply.result))


def settle(kind: type[R], result: object) -> R:
    """What a handler returned, checked. Raises TypeError and ValueError."""
    if not isinstance(result, kind):
        raise TypeError(f"must return {kind.__name__}, not {type(result).__name__}")
    return _read(kind, msgspec.json.encode(result, enc_hook=_as_json))


def _as_json(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # pydantic
    if dump is None:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
    return dump(mode="json")


def _read(kind: type[R], payload: bytes) -> R:
    wire = msgspec.json.decode(payload, type=_WIRE[kind])
    fields: dict[str, Any] = {}
    for name in kind.__struct_fields__:
        if name in ("info", "meta"):
            fields[name] = _document(getattr(wire, name), getattr(wire, f"b64{name}", None), name)
        elif name == "data":
            fields[name] = _document(wire.data, wire.b64data, name)
        elif name == "subs":
            subs = getattr(wire, name) or {}
            fields[name] = {channel: _subscribe(each) for channel, each in subs.items()}
        elif (value := getattr(wire, name)) is not None:
            fields[name] = (value or None) if name == "expire_at" else value
    result: R = kind(**fields)
    if isinstance(result, PublishResult) and result.version < 0:
        raise ValueError("version is negative")
    return result


def _subscribe(wire: _Subscribe | None) -> SubscribeResult:
    if wire is None:
        return SubscribeResult()
    return SubscribeResult(
        info=_document(wire.info, wire.b64info, "info"),
        data=_document(wire.data, wire.b64data, "data"),
        override=wire.override,
        expire_at=wire.expire_at or None,
    )


def _document(raw: Raw, encoded: str | None, name: str) -> Raw | None:
    """One document on one line, binary data in its JSON form; None = there is none. Raises ValueError."""
    try:
        if encoded:
            return Raw(as_document(binascii.a2b_base64(encoded, strict_mode=True)))
        document = bytes(raw)
        return None if document in (b"", NULL) else Raw(json_line(document))
    except (DecodeError, ValueError) as error:
        raise ValueError(f"{'b64' if encoded else ''}{name}: {error}") from error
