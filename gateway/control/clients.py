"""`subscribe`, `unsubscribe`, `disconnect` and `refresh`: what every worker is told to do with its own connections.

Each is one control message in Redis (`protocol.control_messages`), at most once: a worker that has no Redis at that
moment does not hear it. The rule that is easiest to break: a request that names neither user nor client is refused,
never taken for everybody.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from gateway.broker import CommandQueue
from gateway.clock import Clock
from gateway.config import Config
from gateway.control.answers import ApiError
from gateway.control.fields import (
    Base64Field,
    ChannelField,
    ClientField,
    DataField,
    ExpireField,
    Rooms,
    SessionField,
    UserField,
    check_position,
    check_size,
    check_time,
    json_field,
    raw_or_unset,
)
from gateway.control.methods import Method, Nothing
from protocol.codes import BAD_REQUEST, DISCONNECTS, FORCE_DISCONNECT, INTERNAL
from protocol.control_messages import (
    MAX_REASON_BYTES,
    ControlMessage,
    DisconnectClients,
    Override,
    RefreshClients,
    SubscribeClients,
    UnsubscribeClients,
    encode_control,
)
from protocol.position import Position
from protocol.redis_contract import control_channel


class SubscribeRequest(msgspec.Struct, kw_only=True):
    """Clients and the channel that they are subscribed to from now on."""

    user: UserField = ""
    channel: ChannelField = ""
    client: ClientField = ""
    session: SessionField = ""
    info: Annotated[DataField, Meta(description="Channel information of the clients, as JSON")] = UNSET
    b64info: Base64Field = ""
    data: Annotated[DataField, Meta(description="What the clients are told with the subscription, as JSON")] = UNSET
    b64data: Base64Field = ""
    recover_since: Annotated[Position | None, Meta(description="Also send what was published since")] = None
    expire_at: ExpireField = 0
    override: Annotated[Override, Meta(description="Settings of the namespace that are changed for them")] = Override()


class UnsubscribeRequest(msgspec.Struct, kw_only=True):
    """Clients and the channel whose subscription ends, for good (code 2000)."""

    user: UserField = ""
    channel: ChannelField = ""
    client: ClientField = ""
    session: SessionField = ""


class DisconnectWith(msgspec.Struct, kw_only=True):
    """How connections are closed."""

    code: Annotated[int, Meta(description="3000–4999; SDKs stay away at 3500–3999 and from 4500. 0 = 3503")] = 0
    reason: Annotated[str, Meta(description=f"At most {MAX_REASON_BYTES} bytes")] = ""


class DisconnectRequest(msgspec.Struct, kw_only=True):
    """Clients whose connections are closed."""

    user: UserField = ""
    client: ClientField = ""
    session: SessionField = ""
    whitelist: Annotated[list[str], Meta(description="Ids of clients that stay")] = []
    disconnect: DisconnectWith | None = None


class RefreshRequest(msgspec.Struct, kw_only=True):
    """Clients whose connections live longer, shorter, or under other information."""

    user: UserField = ""
    client: ClientField = ""
    session: SessionField = ""
    expired: Annotated[bool, Meta(description="End the connections now (3005)")] = False
    expire_at: ExpireField = 0
    info: Annotated[DataField, Meta(description="Information about the connection, as JSON. Absent = as is")] = UNSET
    b64info: Base64Field = ""


class Messenger:
    """Tells every worker."""

    def __init__(self, config: Config, queue: CommandQueue, clock: Clock) -> None:
        self._channel = control_channel(config.redis.prefix)
        self._max_bytes = config.limits.publication_bytes
        self._rooms = Rooms.of(config)
        self._queue = queue
        self._clock = clock

    async def subscribe(self, request: SubscribeRequest) -> Nothing:
        _check_target(request)
        self._rooms.rules(request.channel)
        check_position("recover_since", request.recover_since)
        check_time("expire_at", request.expire_at, now=self._clock.time())
        message = SubscribeClients(
            user=request.user,
            client=request.client,
            session=request.session,
            channel=request.channel,
            info=raw_or_unset(json_field("info", request.info, request.b64info)),
            data=raw_or_unset(json_field("data", request.data, request.b64data)),
            recover_since=request.recover_since,
            expire_at=request.expire_at,
            override=request.override,
        )
        return await self._tell(message, "data")

    async def unsubscribe(self, request: UnsubscribeRequest) -> Nothing:
        _check_target(request)
        self._rooms.rules(request.channel)
        message = UnsubscribeClients(
            user=request.user, client=request.client, session=request.session, channel=request.channel
        )
        return await self._tell(message, "user")

    async def disconnect(self, request: DisconnectRequest) -> Nothing:
        _check_target(request)
        code, reason = _close_with(request.disconnect)
        message = DisconnectClients(
            user=request.user,
            client=request.client,
            session=request.session,
            code=code,
            reason=reason,
            whitelist=tuple(request.whitelist),
        )
        return await self._tell(message, "whitelist")

    async def refresh(self, request: RefreshRequest) -> Nothing:
        _check_target(request)
        check_time("expire_at", request.expire_at, now=self._clock.time())
        message = RefreshClients(
            user=request.user,
            client=request.client,
            session=request.session,
            expired=request.expired,
            expire_at=request.expire_at,
            info=raw_or_unset(json_field("info", request.info, request.b64info)),
        )
        return await self._tell(message, "info")

    async def _tell(self, message: ControlMessage, largest: str) -> Nothing:
        """Raises ApiError, BrokerError. `largest`: the field that makes a message too large."""
        payload = encode_control(message)
        check_size(largest, len(payload), self._max_bytes)
        if not await self._queue.publish(self._channel, payload):
            raise ApiError(INTERNAL, "temporary, no worker listens to Redis: nothing was done")
        return Nothing()


def _check_target(request: SubscribeRequest | UnsubscribeRequest | DisconnectRequest | RefreshRequest) -> None:
    if not (request.user or request.client or request.session):
        raise ApiError(BAD_REQUEST, "user: is missing, and so are client and session: say whom it concerns")


def _close_with(given: DisconnectWith | None) -> tuple[int, str]:
    """Code and reason. Raises ApiError (107)."""
    given = given or DisconnectWith()
    code = given.code or FORCE_DISCONNECT.code
    if not 3000 <= code <= 4999:
        raise ApiError(BAD_REQUEST, f"disconnect.code: must be from 3000 to 4999, is {code}")
    if len(given.reason.encode()) > MAX_REASON_BYTES:
        raise ApiError(BAD_REQUEST, f"disconnect.reason: has more than {MAX_REASON_BYTES} bytes")
    known = DISCONNECTS.get(code)
    return code, given.reason or (known.reason if known else "")


def client_methods(
    config: Config, queue: CommandQueue, clock: Clock
) -> tuple[Method[SubscribeRequest], Method[UnsubscribeRequest], Method[DisconnectRequest], Method[RefreshRequest]]:
    """`subscribe`, `unsubscribe`, `disconnect`, `refresh`."""
    messenger = Messenger(config, queue, clock)
    length = config.limits.channel_length
    return (
        Method(
            "subscribe",
            "Subscribe connections to a channel",
            SubscribeRequest,
            Nothing,
            messenger.subscribe,
            example='{"user": "42", "channel": "news"}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
        ),
        Method(
            "unsubscribe",
            "End the subscriptions of connections to a channel",
            UnsubscribeRequest,
            Nothing,
            messenger.unsubscribe,
            example='{"user": "42", "channel": "news"}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
        ),
        Method(
            "disconnect",
            "Close connections",
            DisconnectRequest,
            Nothing,
            messenger.disconnect,
            example='{"user": "42", "disconnect": {"code": 4501, "reason": "account closed"}}',
        ),
        Method(
            "refresh",
            "Change how long connections live",
            RefreshRequest,
            Nothing,
            messenger.refresh,
            example='{"user": "42", "expire_at": 1790000000}',
        ),
    )
