"""From a connect or refresh token to claims, or to the answer that the protocol prescribes."""

from __future__ import annotations

import base64

import msgspec

from gateway.auth import ConnectionClaims, SubscriptionClaims, UnknownKey
from gateway.errors import TokenExpired, TokenInvalid
from gateway.session.context import SessionContext
from gateway.session.outcomes import Disconnect, Refusal
from protocol.codes import INTERNAL, INVALID_TOKEN, PERMISSION_DENIED, TOKEN_EXPIRED


class _Subject(msgspec.Struct):
    sub: str = ""


def authenticate(context: SessionContext, token: str) -> ConnectionClaims:
    """Who connects. Raises Disconnect(3500) for an invalid or revoked token, Refusal(109) for an expired one."""
    settings = context.config.auth
    if settings.insecure:
        return ConnectionClaims(user=_claimed_user(token))
    if not token:
        if settings.anonymous:
            return ConnectionClaims(user="")
        raise Disconnect(INVALID_TOKEN, "no token, and anonymous clients are not allowed")
    try:
        claims = context.verifier.verify_connection(token)
    except TokenExpired as error:
        raise Refusal(TOKEN_EXPIRED) from error
    except UnknownKey as error:
        # The key set is being read again: the same token may be good a moment later.
        raise Refusal(INTERNAL) from error
    except TokenInvalid as error:
        raise Disconnect(INVALID_TOKEN, str(error)) from error
    if context.revocations.concern(claims.token_id, claims.user, claims.issued_at):
        raise Disconnect(INVALID_TOKEN, "token is revoked")
    return claims


def authorize(context: SessionContext, token: str, *, channel: str, user: str, client: str) -> SubscriptionClaims:
    """What a subscription token allows.

    Raises Refusal(103) for an invalid or revoked token, Refusal(109) for one that has expired, Disconnect(3500) for one
    of another channel, user or client.
    """
    try:
        claims = context.verifier.verify_subscription(token)
    except TokenExpired as error:
        raise Refusal(TOKEN_EXPIRED) from error
    except UnknownKey as error:
        raise Refusal(INTERNAL) from error
    except TokenInvalid as error:
        raise Refusal(PERMISSION_DENIED) from error
    if claims.channel != channel or claims.user != user or (claims.client and claims.client != client):
        raise Disconnect(INVALID_TOKEN, "subscription token of another channel, user or client")
    if context.revocations.concern(claims.token_id, claims.user, claims.issued_at):
        raise Refusal(PERMISSION_DENIED, "token is revoked")
    return claims


def _claimed_user(token: str) -> str:
    """Insecure mode: the user that a token names, whoever signed it; "" without one."""
    try:
        payload = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Subject).sub
    except (IndexError, ValueError, msgspec.MsgspecError):
        return ""
