"""What backends and nodes tell every node on `<prefix>:control`: one JSON object with `op` in each Redis message.

    {"op": "disconnect", "user": "42", "code": 3503, "reason": "force disconnect", "whitelist": ["…"]}
    {"op": "unsubscribe", "user": "42", "channel": "news"}
    {"op": "subscribe", "user": "42", "channel": "news", "data": {…}, "recover_since": {"offset": 7, "epoch": "…"}}
    {"op": "refresh", "user": "42", "expire_at": 1790000000}
    {"op": "revoked", "token_id": "…", "expire_at": 1790000000}
    {"op": "survey", "reply_to": "gw:survey:…", "pattern": "news:*"}

Each node acts on its own connections. Whom it concerns: `user`, `client`, or both (then the client only if it is that
user's). `session` is another name for `client`, as older backends send it. A message that names nobody is refused,
never taken for everybody. At most once: what must survive a Redis that is away (revocations) is also stored.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET

from protocol.codes import FORCE_DISCONNECT
from protocol.commands import Data
from protocol.encodings.json import json_line
from protocol.errors import DecodeError, EnvelopeError
from protocol.position import Position


class Setting(msgspec.Struct, frozen=True):
    """A namespace setting that is changed for one subscription."""

    value: bool = False


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    """Namespace settings that are changed for one subscription. None = as the namespace says."""

    presence: Setting | None = None
    join_leave: Setting | None = None
    force_recovery: Setting | None = None
    force_positioning: Setting | None = None


class _Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="op", kw_only=True):
    """Base of all messages."""


class _Targeted(_Message, frozen=True, omit_defaults=True, kw_only=True):
    """Base of those that concern the connections of a user, or one client."""

    user: str = ""
    client: str = ""
    session: str = ""


class DisconnectClients(_Targeted, frozen=True, omit_defaults=True, kw_only=True, tag="disconnect"):
    """Close connections. `whitelist`: client ids that stay."""

    code: int = FORCE_DISCONNECT.code
    """3000–4999; says whether SDKs come back (`protocol.codes`)."""
    reason: str = FORCE_DISCONNECT.reason
    whitelist: tuple[str, ...] = ()


class UnsubscribeClients(_Targeted, frozen=True, omit_defaults=True, kw_only=True, tag="unsubscribe"):
    """End subscriptions to a channel, for good (2000)."""

    channel: str


class SubscribeClients(_Targeted, frozen=True, omit_defaults=True, kw_only=True, tag="subscribe"):
    """Subscribe to a channel, without asking the clients."""

    channel: str
    info: Data = UNSET
    """Channel information of the clients: JSON."""
    data: Data = UNSET
    """What the clients are told with the subscription: JSON."""
    recover_since: Position | None = None
    expire_at: float = 0
    """End of the subscription, seconds since 1970 UTC; 0 = never."""
    override: Override = Override()


class RefreshClients(_Targeted, frozen=True, omit_defaults=True, kw_only=True, tag="refresh"):
    """Change how long connections live, and what others learn about them."""

    expired: bool = False
    """End them now (3005)."""
    expire_at: float = 0
    """End, seconds since 1970 UTC; 0 = never."""
    info: Data = UNSET
    """Information about the connection: JSON. Absent = as it was."""


class Revoked(_Message, frozen=True, omit_defaults=True, kw_only=True, tag="revoked"):
    """Tokens are no longer accepted, and their connections are closed (3500).

    Which tokens: the one with `token_id`; or those issued before `issued_before`, of `user` or of everybody.
    """

    token_id: str = ""
    user: str = ""
    issued_before: float = 0
    """Seconds since 1970 UTC. A token that does not say when it was issued counts as older."""
    expire_at: float
    """When this can be forgotten, seconds since 1970 UTC: no token that it concerns is valid any longer."""


class Survey(_Message, frozen=True, omit_defaults=True, kw_only=True, tag="survey"):
    """Every worker says which channels its clients are in: it pushes `SurveyPage`s to the Redis list `reply_to`."""

    reply_to: str
    """Key of the list. Workers let it expire after a minute."""
    pattern: str = "*"
    """Glob over channel names: `*`, `?`, `[…]`."""


class SurveyPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Part of one worker's answer."""

    worker: str
    channels: dict[str, int]
    """Channel → number of subscribers on that worker. At most SURVEY_PAGE."""
    last: bool = False
    """Whether that worker has said everything."""


MAX_REASON_BYTES: Final = 123
"""RFC 6455 §5.5: a control frame has 125 bytes at most, two of them for the code."""
SURVEY_PAGE: Final = 1000
"""Channels in one page of a survey."""

ControlMessage = DisconnectClients | UnsubscribeClients | SubscribeClients | RefreshClients | Revoked | Survey

_decoder: Final[msgspec.json.Decoder[ControlMessage]] = msgspec.json.Decoder(ControlMessage)
_page_decoder: Final = msgspec.json.Decoder(SurveyPage)
_encoder: Final = msgspec.json.Encoder()


def encode_control(message: ControlMessage) -> bytes:
    """The payload of one message."""
    return _encoder.encode(message)


def encode_page(page: SurveyPage) -> bytes:
    """One element of the list that answers a survey."""
    return _encoder.encode(page)


def decode_page(payload: bytes) -> SurveyPage:
    """What an element says. Raises EnvelopeError."""
    try:
        return _page_decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EnvelopeError(str(error)) from error


def decode_control(payload: bytes) -> ControlMessage:
    """What a payload says. Raises EnvelopeError, which names what is wrong."""
    try:
        message = _decoder.decode(json_line(payload))
    except (DecodeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EnvelopeError(str(error)) from error
    if isinstance(message, _Targeted) and not (message.user or message.client or message.session):
        raise EnvelopeError("names neither user nor client")
    if isinstance(message, DisconnectClients) and not 3000 <= message.code <= 4999:
        raise EnvelopeError("code is not one of 3000–4999")
    if isinstance(message, DisconnectClients) and len(message.reason.encode()) > MAX_REASON_BYTES:
        raise EnvelopeError(f"reason has more than {MAX_REASON_BYTES} bytes")
    if isinstance(message, Revoked) and not (message.token_id or message.user or message.issued_before):
        raise EnvelopeError("names no tokens")
    return message
