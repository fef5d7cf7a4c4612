"""What the gateway sends: a `Reply` to a command (same id), or a `Push` (never an id), both in one envelope.

Zero values are left out, except where the protocol wants them: `ClientInfo.user` and `client`, `presence`,
`num_clients`, `num_users`, and in a history result `publications`, `offset` and `epoch`. A result without content is an
empty object, never absent.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from protocol.commands import Data


class Error(msgspec.Struct, omit_defaults=True):
    code: int = 0
    message: str = ""
    temporary: bool = False


class ClientInfo(msgspec.Struct):
    """Who a publication, a join or a presence entry is about. `user` and `client` are always on the wire."""

    user: str = ""
    client: str = ""
    conn_info: Data = UNSET
    chan_info: Data = UNSET


class Publication(msgspec.Struct, omit_defaults=True):
    data: Data = UNSET
    info: ClientInfo | None = None
    offset: int = 0
    tags: dict[str, str] = {}
    delta: bool = False
    time: int = 0
    channel: str = ""


class SubscribeResult(msgspec.Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = []
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Data = UNSET
    was_recovering: bool = False
    delta: bool = False
    id: int = 0


class ConnectResult(msgspec.Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: Data = UNSET
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: int = 0


class UnsubscribeResult(msgspec.Struct):
    pass


class PublishResult(msgspec.Struct):
    pass


class PresenceResult(msgspec.Struct):
    presence: dict[str, ClientInfo] = {}


class PresenceStatsResult(msgspec.Struct):
    num_clients: int = 0
    num_users: int = 0


class HistoryResult(msgspec.Struct):
    publications: list[Publication] = []
    offset: int = 0
    epoch: str = ""


class PingResult(msgspec.Struct):
    pass


class RpcResult(msgspec.Struct):
    data: Data = UNSET


class RefreshResult(msgspec.Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(msgspec.Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Join(msgspec.Struct):
    info: ClientInfo


class Leave(msgspec.Struct):
    info: ClientInfo


class Unsubscribe(msgspec.Struct, omit_defaults=True):
    code: int = 0
    reason: str = ""


class Subscribe(msgspec.Struct, omit_defaults=True):
    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Data = UNSET


class Message(msgspec.Struct):
    data: Data = UNSET


class Refresh(msgspec.Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Disconnect(msgspec.Struct, omit_defaults=True):
    code: int = 0
    reason: str = ""
    reconnect: bool = False


class Push(msgspec.Struct, omit_defaults=True):
    """One event for a channel, or (without one) for the connection. Exactly one kind is set."""

    id: int = 0
    channel: str = ""
    pub: Publication | None = None
    join: Join | None = None
    leave: Leave | None = None
    unsubscribe: Unsubscribe | None = None
    message: Message | None = None
    subscribe: Subscribe | None = None
    connect: ConnectResult | None = None
    disconnect: Disconnect | None = None
    refresh: Refresh | None = None


class Reply(msgspec.Struct, omit_defaults=True):
    """One reply or push. A reply has the id of its command and either an error or that command's result."""

    id: int = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    ping: PingResult | None = None
    rpc: RpcResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None


Result = (
    ConnectResult
    | SubscribeResult
    | UnsubscribeResult
    | PublishResult
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | PingResult
    | RpcResult
    | RefreshResult
    | SubRefreshResult
)
"""Any result of a command."""
