"""Methods that act on clients wherever they are connected: every worker is told, and acts on its own.

They are answered when every worker has been told, not when it has acted: a client that connects at that moment may be
missed, except by the revocations, which are also remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from gateway.clock import Clock
from gateway.control.answers import ApiError
from gateway.control.bus import Bus, broker_errors
from gateway.control.fields import Channels, check_position, json_field, moment
from gateway.control.methods import Method
from protocol.codes import BAD_REQUEST, DISCONNECTS, FORCE_DISCONNECT, NOT_AVAILABLE
from protocol.commands import Data
from protocol.control_messages import (
    MAX_REASON_BYTES,
    DisconnectClients,
    Override,
    RefreshClients,
    Revoked,
    SubscribeClients,
    UnsubscribeClients,
)
from protocol.position import Position

REMEMBERED_S: Final = 30 * 86_400
"""Time that a revocation is remembered when its caller does not say: it should be the longest life of a token."""
MAX_WHITELIST: Final = 1000


class _Target(msgspec.Struct):
    user: str = ""
    client: str = ""
    session: str = ""


class SubscribeRequest(_Target):
    channel: str = ""
    info: Data = UNSET
    b64info: str = ""
    data: Data = UNSET
    b64data: str = ""
    recover_since: Position | None = None
    expire_at: float = 0
    override: Override = Override()


class UnsubscribeRequest(_Target):
    channel: str = ""


class DisconnectObject(msgspec.Struct):
    code: int = 0
    reason: str = ""


class DisconnectRequest(_Target):
    whitelist: list[str] = []
    disconnect: DisconnectObject | None = None


class RefreshRequest(_Target):
    expired: bool = False
    expire_at: float = 0
    info: Data = UNSET
    b64info: str = ""


class RevokeTokenRequest(msgspec.Struct):
    """`uid`: the `jti` of the token. `expire_at`: when it is over anyway, seconds since 1970 UTC."""

    uid: str = ""
    expire_at: float = 0


class InvalidateRequest(msgspec.Struct):
    """`user`: "" = everybody. `issued_before`: seconds since 1970 UTC; absent = now. `channel`: not available."""

    user: str = ""
    issued_before: float = 0
    expire_at: float = 0
    channel: str = ""


class Nothing(msgspec.Struct):
    """Done."""


def client_methods(bus: Bus, channels: Channels, clock: Clock) -> list[Method[Any]]:
    """subscribe, unsubscribe, disconnect, refresh, revoke_token, invalidate_user_tokens."""

    async def subscribe(request: SubscribeRequest) -> Nothing:
        _check_target(request)
        channels.rules(request.channel)
        check_position("recover_since", request.recover_since)
        message = SubscribeClients(
            user=request.user,
            client=request.client,
            session=request.session,
            channel=request.channel,
            info=json_field("info", request.info, request.b64info),
            data=json_field("data", request.data, request.b64data),
            recover_since=request.recover_since,
            expire_at=moment("expire_at", request.expire_at, now=clock.time()),
            override=request.override,
        )
        await bus.tell(message)
        return Nothing()

    async def unsubscribe(request: UnsubscribeRequest) -> Nothing:
        _check_target(request)
        channels.rules(request.channel)
        await bus.tell(
            UnsubscribeClients(
                user=request.user, client=request.client, session=request.session, channel=request.channel
            )
        )
        return Nothing()

    async def disconnect(request: DisconnectRequest) -> Nothing:
        _check_target(request)
        code, reason = _code_and_reason(request.disconnect)
        if len(request.whitelist) > MAX_WHITELIST:
            raise ApiError(BAD_REQUEST, f"whitelist: {len(request.whitelist)} ids, {MAX_WHITELIST} are allowed")
        await bus.tell(
            DisconnectClients(
                user=request.user,
                client=request.client,
                session=request.session,
                code=code,
                reason=reason,
                whitelist=tuple(request.whitelist),
            )
        )
        return Nothing()

    async def refresh(request: RefreshRequest) -> Nothing:
        _check_target(request)
        await bus.tell(
            RefreshClients(
                user=request.user,
                client=request.client,
                session=request.session,
                expired=request.expired,
                expire_at=moment("expire_at", request.expire_at, now=clock.time()),
                info=json_field("info", request.info, request.b64info),
            )
        )
        return Nothing()

    async def revoke(revoked: Revoked) -> Nothing:
        with broker_errors():
            await bus.revocations.revoke(revoked)
        return Nothing()

    async def revoke_token(request: RevokeTokenRequest) -> Nothing:
        if not request.uid:
            raise ApiError(BAD_REQUEST, "uid: is missing")
        until = moment("expire_at", request.expire_at, now=clock.time()) or clock.time() + REMEMBERED_S
        return await revoke(Revoked(token_id=request.uid, expire_at=until))

    async def invalidate(request: InvalidateRequest) -> Nothing:
        if request.channel:
            # Without it this would concern more than was asked for.
            raise ApiError(NOT_AVAILABLE, "channel: subscription tokens are not revoked by channel")
        before = moment("issued_before", request.issued_before, now=clock.time()) or clock.time()
        until = moment("expire_at", request.expire_at, now=clock.time()) or clock.time() + REMEMBERED_S
        return await revoke(Revoked(user=request.user, issued_before=before, expire_at=until))

    def fleet_wide(
        name: str, summary: str, request: type[Any], call: Callable[[Any], Awaitable[Nothing]]
    ) -> Method[Any]:
        return Method(name, summary, request, Nothing, call)

    def on_channel(
        name: str, summary: str, request: type[Any], call: Callable[[Any], Awaitable[Nothing]]
    ) -> Method[Any]:
        return Method(name, summary, request, Nothing, call, channels=lambda request: (request.channel,))

    return [
        on_channel("subscribe", "Subscribe clients to a channel", SubscribeRequest, subscribe),
        on_channel("unsubscribe", "Unsubscribe clients from a channel", UnsubscribeRequest, unsubscribe),
        fleet_wide("disconnect", "Close connections", DisconnectRequest, disconnect),
        fleet_wide("refresh", "Change when connections end", RefreshRequest, refresh),
        fleet_wide("revoke_token", "Accept a token no longer", RevokeTokenRequest, revoke_token),
        fleet_wide("invalidate_user_tokens", "Accept no tokens that were issued before", InvalidateRequest, invalidate),
    ]


def _check_target(request: _Target) -> None:
    if not (request.user or request.client or request.session):
        raise ApiError(BAD_REQUEST, "user: is missing, and so are client and session")


def _code_and_reason(given: DisconnectObject | None) -> tuple[int, str]:
    if given is None:
        return FORCE_DISCONNECT
    code = given.code or FORCE_DISCONNECT.code
    if given.code and not 3000 <= given.code <= 4999:
        raise ApiError(BAD_REQUEST, "disconnect.code: must be from 3000 to 4999")
    if len(given.reason.encode()) > MAX_REASON_BYTES:
        raise ApiError(BAD_REQUEST, f"disconnect.reason: has more than {MAX_REASON_BYTES} bytes")
    known = DISCONNECTS.get(code)
    return code, given.reason or (known.reason if known else "")
