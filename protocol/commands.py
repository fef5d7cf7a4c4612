"""What clients send: one `Command` holds an id and exactly one request.

Fields that a client leaves out have their zero value; fields that this version does not know are ignored, so that newer
SDKs can connect. `data` stays raw, as the bytes of its encoding.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from protocol.position import Position

Data = Raw | UnsetType
"""A value in the encoding of the message that it came with; UNSET = not given."""

FOSSIL: Final = "fossil"
"""SubscribeRequest.delta: the one kind of delta that there is."""
FLAG_CHANNEL_COMPACTION: Final = 1
"""SubscribeRequest.flag: the client understands numeric channel ids."""
FLAG_ERROR_ON_UNRECOVERABLE: Final = 2
"""SubscribeRequest.flag: answer error 112 instead of `recovered: false`."""


class SubscribeRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Data = UNSET
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    flag: int = 0
    tf: Data = UNSET


class ConnectRequest(msgspec.Struct, omit_defaults=True):
    token: str = ""
    data: Data = UNSET
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}
    flag: int = 0


class UnsubscribeRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""


class PublishRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""
    data: Data = UNSET


class PresenceRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""


class PresenceStatsRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""


class HistoryRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""
    limit: int = 0
    """0 = position only, -1 = all."""
    since: Position | None = None
    reverse: bool = False


class PingRequest(msgspec.Struct, omit_defaults=True):
    pass


class SendRequest(msgspec.Struct, omit_defaults=True):
    data: Data = UNSET


class RpcRequest(msgspec.Struct, omit_defaults=True):
    data: Data = UNSET
    method: str = ""


class RefreshRequest(msgspec.Struct, omit_defaults=True):
    token: str = ""


class SubRefreshRequest(msgspec.Struct, omit_defaults=True):
    channel: str = ""
    token: str = ""


class Command(msgspec.Struct, omit_defaults=True):
    """One command. `id` > 0 except for `send`; a command with no id and no request is a pong."""

    id: int = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None

    @property
    def requests(self) -> int:
        """How many requests the command holds; 1 for anything but a pong or a mistake."""
        return sum(getattr(self, name) is not None for name in REQUESTS)

    @property
    def is_pong(self) -> bool:
        """Whether this answers a ping."""
        return self.id == 0 and self.requests == 0


REQUESTS: Final = tuple(name for name in Command.__struct_fields__ if name != "id")
"""Names of all requests, as they stand on the wire."""
