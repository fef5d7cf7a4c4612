"""What the gateway asks a backend, and what a backend answers. One shape for Python handlers and for HTTP.

Theory of operation. A `Backend` has one callable for each event, or None where nobody wants to be asked: then the
gateway decides by its own rules, at no cost. A callable takes a context and gives a result; it raises `Refused` (the
client gets an error), `Disconnected` (the client is closed), or `gateway.errors.BackendUnavailable` (nobody could be
asked: error 100, temporary).

Values for clients (`info`, `data`, `meta`) are anything that can be written as JSON when a handler makes them. When the
session gets them they are `msgspec.Raw`: one document on one line, checked. The rule that is easiest to break: a result
goes through `gateway.backend.shapes.settle` before it leaves this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

Event = Literal["connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc", "disconnect"]
MAX_REASON_BYTES: Final = 123
"""RFC 6455 §5.5: what a close frame has room for."""
_HIDDEN: Final = frozenset({"token", "headers", "data", "meta"})
"""Fields of a context that are in no log and no traceback."""


class Refused(Exception):
    """The client is answered with an error. Raise it from a handler."""

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        """`code`: 400 to 1999 are the application's own; 100 to 112 have the meaning of the protocol. `temporary`: the
        client may try the same again. Raises ValueError for another code."""
        if not (100 <= code <= 112 or 400 <= code <= 1999):
            raise ValueError(f"an error code is 400 to 1999, or 100 to 112, not {code}")
        self.code = code
        self.message = message
        self.temporary = temporary
        super().__init__(f"{code}: {message}")


class Disconnected(Exception):
    """The client is closed. Raise it from a handler."""

    def __init__(self, code: int, reason: str) -> None:
        """`code`: 4000 to 4999 are the application's own, and 3000 to 3999 those of the protocol. Clients come back by
        themselves, except after 3500 to 3999 and 4500 to 4999. Raises ValueError for another code, or a reason of more
        than 123 bytes."""
        if not 3000 <= code <= 4999:
            raise ValueError(f"a disconnect code is 3000 to 4999, not {code}")
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise ValueError(f"the reason of a disconnect has at most {MAX_REASON_BYTES} bytes")
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Who an event is about. What a client sent is not in its representation, so that no traceback shows it."""

    client: str
    """Id of the client."""
    user: str = ""
    """Id of the user; "" = anonymous, or not known yet."""
    transport: str = "websocket"
    protocol: str = "json"
    """Encoding of the connection."""
    encoding: str = "json"
    """What data is in a call over HTTP: a JSON document, or `binary` (then it is `b64data`). Handlers in Python always
    get the document: for binary data `{"$binary": "<base64>"}`."""
    meta: Raw | None = None
    """What the connection token or the result of `connect` said for the backend only."""
    headers: Mapping[str, str] = {}
    """Headers of the handshake that `[backend] headers` lists, by their names in lower case."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in _HIDDEN)
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in _HIDDEN]


class DataContext(Context, frozen=True, kw_only=True):
    """An event with something that the client sent."""

    data: Raw | None = None
    """One JSON document, as the client wrote it; None = it sent none."""

    def json(self) -> Any:
        """The data as Python values; None without data. Raises ValueError for data that is no JSON."""
        return None if self.data is None else msgspec.json.decode(bytes(self.data))


class ConnectContext(DataContext, frozen=True, kw_only=True):
    """A client without a token wants to connect."""

    name: str = ""
    """What the client calls itself (`js`)."""
    version: str = ""
    channels: tuple[str, ...] = ()
    """Server-side channels that it would recover."""


class RefreshContext(Context, frozen=True, kw_only=True):
    """A connection that `connect` let in expires soon."""


class SubscribeContext(DataContext, frozen=True, kw_only=True):
    """A client wants to subscribe to a channel of a namespace with `subscribe_by = "backend"`."""

    channel: str
    token: str = ""
    """Subscription token, not verified."""


class SubRefreshContext(Context, frozen=True, kw_only=True):
    """A subscription that `subscribe` allowed expires soon."""

    channel: str


class PublishContext(DataContext, frozen=True, kw_only=True):
    """A client wants to publish to a channel of a namespace with `publish_by = "backend"`."""

    channel: str


class RpcContext(DataContext, frozen=True, kw_only=True):
    """A client calls a method."""

    method: str = ""


class DisconnectContext(Context, frozen=True, kw_only=True):
    """A client is gone."""

    code: int
    """Close code; 3000 when it was not the gateway that closed the connection."""
    reason: str


class Toggle(msgspec.Struct, frozen=True):
    value: bool = False


class Override(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Namespace settings that are changed for one subscription. None = as the namespace says."""

    presence: Toggle | None = None
    join_leave: Toggle | None = None
    force_recovery: Toggle | None = None
    force_positioning: Toggle | None = None


class SubscribeResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The client may subscribe."""

    info: Any = None
    """What others see of the client in the channel (`chan_info`)."""
    data: Any = None
    """What the client is told with the subscription."""
    override: Override | None = None
    expire_at: float | None = None
    """End of the subscription, seconds since 1970 UTC; None or 0 = never. `sub_refresh` is asked before, if it is
    hooked; else the client subscribes again."""


class ConnectResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The client may connect."""

    user: str = ""
    """Id of the user; "" (anonymous) only where `[auth] anonymous` is true."""
    expire_at: float | None = None
    """End of the connection, seconds since 1970 UTC; None or 0 = never. `refresh` is asked before, if it is hooked;
    else the client connects again."""
    info: Any = None
    """What others see of the client (`conn_info`)."""
    data: Any = None
    """What the client is told with the reply."""
    channels: tuple[str, ...] = ()
    """Channels to subscribe the client to."""
    subs: Mapping[str, SubscribeResult] = {}
    """The same with settings."""
    meta: Any = None
    """What later contexts carry; never shown to clients."""


class RefreshResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a connection goes on."""

    expired: bool = False
    """It does not: close it (3005)."""
    expire_at: float | None = None
    """New end, seconds since 1970 UTC; None or 0 = never."""
    info: Any = None
    """None = as before."""
    meta: Any = None
    """None = as before."""


class SubRefreshResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a subscription goes on."""

    expired: bool = False
    """It does not: end it (2501)."""
    expire_at: float | None = None
    """New end, seconds since 1970 UTC; None or 0 = never."""
    info: Any = None
    """None = as before."""


class PublishResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The client may publish."""

    data: Any = None
    """What is published instead of the client's data; None = the client's."""
    skip_history: bool = False
    """Deliver it without keeping it."""
    tags: Mapping[str, str] = {}
    idempotency_key: str = ""
    """Published once within five minutes. Needs history."""
    delta: bool = False
    """Taken and not used: this version sends whole publications."""
    version: int = 0
    """Published only if newer than that of the channel. Needs history."""
    version_epoch: str = ""


class RpcResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the call gives."""

    data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Who is asked. None = nobody."""

    on_connect: Callable[[ConnectContext], Awaitable[ConnectResult]] | None = None
    on_refresh: Callable[[RefreshContext], Awaitable[RefreshResult]] | None = None
    on_subscribe: Callable[[SubscribeContext], Awaitable[SubscribeResult]] | None = None
    on_sub_refresh: Callable[[SubRefreshContext], Awaitable[SubRefreshResult]] | None = None
    on_publish: Callable[[PublishContext], Awaitable[PublishResult]] | None = None
    on_rpc: Callable[[RpcContext], Awaitable[RpcResult]] | None = None
    on_disconnect: Callable[[DisconnectContext], None] | None = None
    """Only told: returns at once and never raises."""
    wants_meta: bool = False
    """Whether sessions should remember `meta`."""


NOBODY: Final = Backend()
"""No backend is asked anything."""
