"""Verifying JSON Web Tokens (RFC 7519) in compact form (RFC 7515 §7.1).

Runs once per connect and per private subscription: a reconnect storm is thousands of calls a second, on the event
loop. Signatures are checked by PyJWT's algorithms with keys prepared once; PyJWT's own decoder is left out, because it
prepares the key and looks at every base64 character in Python for each token. Times are compared with the injected
clock.

The rule that is easiest to break: nothing of a token is believed, logged or returned before its signature holds, except
`alg` and `kid`, which only select among our own keys.
"""

from __future__ import annotations

import binascii
import math
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.auth.claims import ConnectionClaims, Override, SubscriptionClaims, SubscriptionGrant
from gateway.auth.keys import KeySet
from gateway.clock import Clock
from gateway.errors import TokenExpired, TokenInvalid
from protocol.encodings.binary import as_document
from protocol.encodings.json import json_line
from protocol.errors import DecodeError

MAX_TOKEN_CHARACTERS: Final = 16_384


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""
    crit: Raw | UnsetType = UNSET


class _Bit(msgspec.Struct):
    value: bool = False


class _Override(msgspec.Struct):
    presence: _Bit | None = None
    join_leave: _Bit | None = None
    force_recovery: _Bit | None = None
    force_positioning: _Bit | None = None


class _Grant(msgspec.Struct):
    info: Raw = Raw()
    b64info: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    override: _Override | None = None


class _Payload(_Grant):
    """Every claim that either kind of token may have. null stands for an absent claim, except for the times that say
    whether the token is accepted: an issuer that loses them by accident should hear of it."""

    sub: str | None = None
    exp: float | UnsetType = UNSET
    nbf: float | UnsetType = UNSET
    iat: float | UnsetType = UNSET
    aud: str | list[str] | None = None
    iss: str | None = None
    jti: str | None = None
    expire_at: float | None = None
    channel: str | None = None
    client: str | None = None
    channels: list[str] | None = None
    subs: dict[str, _Grant | None] | None = None
    meta: Raw = Raw()


class TokenVerifier:
    """Turns tokens into claims."""

    __slots__ = ("_anonymous", "_audience", "_clock", "_header", "_issuer", "_keys", "_leeway_s", "_payload")

    def __init__(
        self,
        keys: KeySet,
        *,
        audience: str = "",
        issuer: str = "",
        leeway_s: float = 0.0,
        anonymous: bool = False,
        clock: Clock,
    ) -> None:
        """`audience` and `issuer`: what `aud` and `iss` must name, "" = not checked. `leeway_s`: tolerated difference
        between the issuer's clock and ours. `anonymous`: tokens without a user are accepted."""
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._leeway_s = leeway_s
        self._anonymous = anonymous
        self._clock = clock
        self._header = msgspec.json.Decoder(_Header)
        self._payload = msgspec.json.Decoder(_Payload)

    def verify_connection(self, token: str) -> ConnectionClaims:
        """The claims of a connection token.

        Raises TokenExpired for one that was valid once, UnknownKey for one whose key may arrive with the next reading
        of the key set, TokenInvalid for everything else, and nothing but these.
        """
        payload, expires_at = self._verify(token)
        if payload.channel is not None:
            raise TokenInvalid("a subscription token (it has a channel) where a connection token is expected")
        subs = payload.subs
        return ConnectionClaims(
            user=payload.sub or "",
            expires_at=expires_at,
            info=_document(payload.info, payload.b64info, "info"),
            channels=tuple(payload.channels) if payload.channels else (),
            subs={channel: _grant(grant) for channel, grant in subs.items()} if subs else {},
            token_id=payload.jti or "",
            issued_at=None if payload.iat is UNSET else payload.iat,
            meta=_document(payload.meta, None, "meta"),
        )

    def verify_subscription(self, token: str) -> SubscriptionClaims:
        """The claims of a subscription token. Raises as `verify_connection` does.

        Whether `user`, `channel` and `client` are those of the subscription at hand is the caller's to check.
        """
        payload, expires_at = self._verify(token)
        if not payload.channel:
            raise TokenInvalid("a subscription token must have a channel")
        return SubscriptionClaims(
            user=payload.sub or "",
            channel=payload.channel,
            client=payload.client or "",
            expires_at=expires_at,
            info=_document(payload.info, payload.b64info, "info"),
            data=_document(payload.data, payload.b64data, "data"),
            override=_override(payload.override),
            token_id=payload.jti or "",
            issued_at=None if payload.iat is UNSET else payload.iat,
        )

    def _verify(self, token: str) -> tuple[_Payload, float | None]:
        """Signature, then audience and issuer, then times: the payload, and when what it grants ends."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise TokenInvalid(f"{len(token)} characters, {MAX_TOKEN_CHARACTERS} are allowed")
        try:
            encoded = token.encode("ascii")
        except UnicodeEncodeError:
            raise TokenInvalid("has characters that are not ASCII") from None
        parts = encoded.split(b".")
        if len(parts) != 3:
            raise TokenInvalid(f"{len(parts)} parts between dots instead of 3")
        try:
            header = self._header.decode(_base64url(parts[0]))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise TokenInvalid(f"header: {error}") from None
        if header.crit is not UNSET:
            raise TokenInvalid("header has critical extensions")  # RFC 7515 §4.1.11: none are understood here
        try:
            signature = _base64url(parts[2])
        except ValueError as error:
            raise TokenInvalid(f"signature: {error}") from None
        self._keys.verify(header.alg, header.kid, encoded[: encoded.rindex(b".")], signature)
        try:
            document = _base64url(parts[1])
            payload = self._payload.decode(document if document.isascii() else document.decode())
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise TokenInvalid(f"payload: {error}") from None
        self._check_parties(payload)
        return payload, self._check_times(payload)

    def _check_parties(self, payload: _Payload) -> None:
        if not payload.sub and not self._anonymous:
            raise TokenInvalid("no user in sub, and anonymous clients are not allowed")
        if self._audience:
            named = payload.aud or ()
            if self._audience != named if isinstance(named, str) else self._audience not in named:
                raise TokenInvalid("aud does not name this audience")
        if self._issuer and payload.iss != self._issuer:
            raise TokenInvalid("iss is not the issuer that is trusted")

    def _check_times(self, payload: _Payload) -> float | None:
        """End of the connection or subscription; None = never."""
        now, leeway = self._clock.time(), self._leeway_s
        for name, moment in (("nbf", payload.nbf), ("iat", payload.iat)):
            if moment is not UNSET and not moment <= now + leeway:
                raise TokenInvalid(f"{name} is {moment - now:.0f} s in the future")
        expires_at = None
        if payload.exp is not UNSET:
            if not math.isfinite(payload.exp):
                raise TokenInvalid("exp is not a time")
            if payload.exp + leeway <= now:
                raise TokenExpired(f"exp is {now - payload.exp:.0f} s in the past")
            expires_at = payload.exp
        if payload.expire_at is not None:
            if not math.isfinite(payload.expire_at):
                raise TokenInvalid("expire_at is not a time")
            if payload.expire_at <= 0:
                return None
            if payload.expire_at + leeway <= now:
                raise TokenExpired(f"expire_at is {now - payload.expire_at:.0f} s in the past")
            expires_at = payload.expire_at
        return expires_at


_URL_ALPHABET: Final = bytes.maketrans(b"-_+/=", b"+/!!!")


def _base64url(text: bytes) -> bytes:
    """RFC 7515 §2: the URL alphabet, without padding. Raises ValueError."""
    return binascii.a2b_base64(text.translate(_URL_ALPHABET) + b"==="[: -len(text) % 4], strict_mode=True)


def _document(raw: Raw, encoded: str | None, name: str) -> bytes | None:
    """The JSON document of a claim and its base64 twin, which wins when both are there; None = neither is."""
    try:
        if encoded:
            return as_document(binascii.a2b_base64(encoded, strict_mode=True))
        document = bytes(raw)
        return None if document in (b"", b"null") else json_line(document)
    except (DecodeError, ValueError) as error:
        raise TokenInvalid(f"{'b64' if encoded else ''}{name}: {error}") from None


def _override(override: _Override | None) -> Override:
    if override is None:
        return _NO_OVERRIDE
    return Override(
        presence=None if override.presence is None else override.presence.value,
        join_leave=None if override.join_leave is None else override.join_leave.value,
        force_recovery=None if override.force_recovery is None else override.force_recovery.value,
        force_positioning=None if override.force_positioning is None else override.force_positioning.value,
    )


def _grant(grant: _Grant | None) -> SubscriptionGrant:
    if grant is None:
        return _NO_SETTINGS
    return SubscriptionGrant(
        info=_document(grant.info, grant.b64info, "info"),
        data=_document(grant.data, grant.b64data, "data"),
        override=_override(grant.override),
    )


_NO_OVERRIDE: Final = Override()
_NO_SETTINGS: Final = SubscriptionGrant()
