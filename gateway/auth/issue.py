"""Making tokens: for the shell, the demo page and tests. Backends make their own, with any JWT library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jwt


def sign_token(
    secret: str,
    *,
    user: str,
    issued_at: float,
    ttl_s: float | None,
    channel: str = "",
    channels: Sequence[str] = (),
    info: object = None,
    audience: str = "",
    issuer: str = "",
) -> str:
    """A token signed with HS256.

    `issued_at` is in seconds since 1970 UTC; `ttl_s` is the time that the token is good for, None = for ever. With
    `channel` it is a subscription token for that channel, without one a connection token; `channels`: those that the
    server subscribes a connection to. `info`: any JSON value.
    """
    claims: dict[str, Any] = {"sub": user, "iat": int(issued_at)}
    if ttl_s is not None:
        claims["exp"] = int(issued_at + ttl_s)
    if channel:
        claims["channel"] = channel
    if channels:
        claims["channels"] = list(channels)
    if info is not None:
        claims["info"] = info
    if audience:
        claims["aud"] = audience
    if issuer:
        claims["iss"] = issuer
    return jwt.encode(claims, secret, algorithm="HS256")
