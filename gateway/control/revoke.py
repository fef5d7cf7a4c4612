"""`revoke_token` and `invalidate_user_tokens`: tokens that are no longer accepted, and whose connections are closed.

Redis remembers each until no token that it concerns can be valid any longer; workers that are away learn of it later.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.broker import RevocationStore
from gateway.clock import Clock
from gateway.control.answers import ApiError
from gateway.control.fields import check_time
from gateway.control.methods import Method, Nothing
from protocol.codes import BAD_REQUEST, NOT_AVAILABLE
from protocol.control_messages import Revoked

REMEMBERED_S: Final = 30 * 86_400
"""Time for which a revocation is remembered that does not say for how long."""
MAX_ID_LENGTH: Final = 1024

ForgetField = Annotated[
    float,
    Meta(
        description="When it can be forgotten, because its tokens have expired, seconds since 1970 UTC; 0 = in 30 days"
    ),
]


class RevokeTokenRequest(msgspec.Struct, kw_only=True):
    """A token by its id."""

    uid: Annotated[str, Meta(max_length=MAX_ID_LENGTH, description="The claim jti of the token")] = ""
    expire_at: ForgetField = 0


class InvalidateUserTokensRequest(msgspec.Struct, kw_only=True):
    """Tokens by user and age."""

    user: Annotated[str, Meta(max_length=MAX_ID_LENGTH, description="Id of a user; empty = everybody")] = ""
    issued_before: Annotated[
        float, Meta(description="Tokens issued before that, seconds since 1970 UTC, or that do not say; 0 = now")
    ] = 0
    expire_at: ForgetField = 0
    channel: Annotated[str, Meta(description="Not available")] = ""


def revoke_methods(
    store: RevocationStore, clock: Clock
) -> tuple[Method[RevokeTokenRequest], Method[InvalidateUserTokensRequest]]:
    """`revoke_token` and `invalidate_user_tokens`."""

    def forgotten_at(expire_at: float, now: float) -> float:
        check_time("expire_at", expire_at, now=now)
        return expire_at or now + REMEMBERED_S

    async def revoke_token(request: RevokeTokenRequest) -> Nothing:
        if not request.uid:
            raise ApiError(BAD_REQUEST, "uid: is missing")
        expire_at = forgotten_at(request.expire_at, clock.time())
        await store.revoke(Revoked(token_id=request.uid, expire_at=expire_at))
        return Nothing()

    async def invalidate(request: InvalidateUserTokensRequest) -> Nothing:
        if request.channel:
            raise ApiError(NOT_AVAILABLE, "channel: subscription tokens are not revoked by channel")
        now = clock.time()
        check_time("issued_before", request.issued_before, now=now)
        await store.revoke(
            Revoked(
                user=request.user,
                issued_before=request.issued_before or now,
                expire_at=forgotten_at(request.expire_at, now),
            )
        )
        return Nothing()

    return (
        Method(
            "revoke_token",
            "Refuse one token from now on, and close its connections",
            RevokeTokenRequest,
            Nothing,
            revoke_token,
            example='{"uid": "6f2c0e"}',
        ),
        Method(
            "invalidate_user_tokens",
            "Refuse the tokens that a user has so far, and close their connections",
            InvalidateUserTokensRequest,
            Nothing,
            invalidate,
            example='{"user": "42"}',
        ),
    )
