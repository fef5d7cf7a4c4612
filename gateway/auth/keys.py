"""The keys that tokens may be signed with, and the check of one signature.

Algorithm confusion is impossible by layout: secrets and public keys live in tables of their own, an algorithm's name
leads to exactly one of them, and a public key is bound to its algorithm when it is read. A token's `alg` and `kid` only
select among what is there. `none` is in no table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from gateway.auth.jwks import PublicKey, read_jwks
from gateway.clock import Clock
from gateway.errors import ConfigError, TokenInvalid
from gateway.log import get_logger

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gateway.config import Auth

REFRESH_PAUSE_S: Final = 10.0
"""Least time between two readings of the key set that unknown keys cause, and between attempts after a failed one."""
MAX_MISSING: Final = 1000
"""Unknown keys that are remembered between two readings: anyone can invent them."""
MAX_KEY_ID: Final = 256

_HMAC: Final[Mapping[str, HMACAlgorithm]] = {
    "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
    "HS384": HMACAlgorithm(HMACAlgorithm.SHA384),
    "HS512": HMACAlgorithm(HMACAlgorithm.SHA512),
}


class UnknownKey(TokenInvalid):
    """Signed with a key that is not in the key set, and the set was not read since the key was first seen. It may be
    there soon: the issuer may have begun to sign with a new key, or the set could not be read yet. A client should try
    again a little later instead of giving up."""


class KeySet:
    """Secrets from the configuration and public keys from a JWKS document.

    Without `jwks_url` it is complete from the start and `run` has nothing to do. With one, public keys are there after
    the first `refresh`, and `run` keeps them fresh.
    """

    __slots__ = (
        "_clock",
        "_jwks_refresh_s",
        "_jwks_url",
        "_last_begun",
        "_last_read",
        "_log",
        "_missing",
        "_public",
        "_read_at",
        "_refresh_wanted",
        "_reported",
        "_secrets",
    )

    def __init__(
        self,
        *,
        hmac_secret: str = "",
        hmac_secret_previous: str = "",
        jwks_url: str = "",
        jwks_refresh_s: float = 300.0,
        clock: Clock,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        """`jwks_url`: an `https://` URL, an `http://` one on loopback, or a file path; "" = no public keys.

        Raises ConfigError when a secret looks like a public key or certificate.
        """
        self._secrets = tuple(_secret(text) for text in (hmac_secret, hmac_secret_previous) if text)
        self._jwks_url = jwks_url
        self._jwks_refresh_s = jwks_refresh_s
        self._clock = clock
        self._log = get_logger() if log is None else log
        self._public: Mapping[tuple[str, str], PublicKey] = {}
        self._read_at: float | None = None
        # Readings are numbered from 1. A key is known to be missing once a reading that began later has not found it.
        self._last_begun = 0
        self._last_read = 0
        # Key asked for in vain → reading that had begun last at that time.
        self._missing: dict[tuple[str, str], int] = {}
        self._refresh_wanted = asyncio.Event()
        self._reported: frozenset[str] = frozenset()

    @classmethod
    def from_settings(cls, settings: Auth, *, clock: Clock) -> KeySet:
        """The keys that `[auth]` names."""
        return cls(
            hmac_secret=settings.hmac_secret,
            hmac_secret_previous=settings.hmac_secret_previous,
            jwks_url=settings.jwks_url,
            jwks_refresh_s=settings.jwks_refresh_s,
            clock=clock,
        )

    def verify(self, algorithm: str, key_id: str, message: bytes, signature: bytes) -> None:
        """Return when `signature` is that of `message` under one of our keys for `algorithm`.

        Raises UnknownKey when the key may come with the next reading of the key set, else TokenInvalid.
        """
        hmac = _HMAC.get(algorithm)
        if hmac is not None:
            if not self._secrets:
                raise TokenInvalid(f"signed with {algorithm}, but there is no [auth] hmac_secret")
            for secret in self._secrets:
                if hmac.verify(message, secret, signature):
                    return
            raise TokenInvalid("signature does not match")
        if not self._jwks_url:
            raise TokenInvalid("signed with a public-key algorithm, but there is no [auth] jwks_url")
        if not self._public_key(algorithm, key_id).verify(message, signature):
            raise TokenInvalid("signature does not match")

    def _public_key(self, algorithm: str, key_id: str) -> PublicKey:
        if algorithm not in PublicKey.ALGORITHMS:
            raise TokenInvalid("signed with an algorithm that is not allowed")
        if len(key_id) > MAX_KEY_ID:
            raise TokenInvalid(f"kid of {len(key_id)} characters, {MAX_KEY_ID} are allowed")
        key = self._public.get((algorithm, key_id))
        if key is not None:
            return key
        if not key_id:
            candidates = [key for (name, _), key in self._public.items() if name == algorithm]
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise TokenInvalid(f"has no kid, and the key set has {len(candidates)} keys for {algorithm}")
        if self._missing.get((algorithm, key_id), self._last_read) < self._last_read:
            raise TokenInvalid(f"signed with an {algorithm} key that is not in the key set")
        if len(self._missing) < MAX_MISSING:
            self._missing.setdefault((algorithm, key_id), self._last_begun)
        self._want_refresh()
        raise UnknownKey(f"signed with an {algorithm} key that is not in the key set yet")

    def _want_refresh(self) -> None:
        """Ask `run` for an earlier reading, unless the last one is too recent."""
        if self._read_at is None or self._clock.monotonic() - self._read_at >= REFRESH_PAUSE_S:
            self._refresh_wanted.set()

    async def refresh(self) -> bool:
        """Read the key set once. On failure the old keys stay, the log says why, and the answer is False."""
        self._read_at = self._clock.monotonic()
        self._last_begun += 1
        try:
            keys, problems = await read_jwks(self._jwks_url)
        except (OSError, ValueError) as error:
            self._log.error("key set not read", source=self._jwks_url, error=str(error), keys_in_use=len(self._public))
            return False
        # A bad entry is said once, not with each reading.
        for problem in problems:
            if problem not in self._reported:
                self._log.warning("key skipped", source=self._jwks_url, problem=problem)
        self._reported = frozenset(problems)
        if not keys:
            self._log.error("key set has no usable key", source=self._jwks_url)
        elif keys.keys() != self._public.keys():
            self._log.info("key set read", source=self._jwks_url, keys=sorted(key_id for _, key_id in keys))
        self._public = keys
        # Answers of the reading before this one are forgotten: who still asks gets this one's.
        self._missing = {key: begun for key, begun in self._missing.items() if begun >= self._last_read}
        self._last_read = self._last_begun
        return True

    async def run(self) -> None:
        """Read the key set now, at the configured interval, and early when a token names a key that is not in it."""
        if not self._jwks_url:
            return
        while True:
            self._refresh_wanted.clear()
            pause = self._jwks_refresh_s if await self.refresh() else min(REFRESH_PAUSE_S, self._jwks_refresh_s)
            try:
                async with asyncio.timeout(pause):
                    await self._refresh_wanted.wait()
            except TimeoutError:
                pass


def _secret(text: str) -> bytes:
    """Bytes of a secret. PyJWT refuses what everyone may know: public keys and certificates in any common form."""
    try:
        return _HMAC["HS256"].prepare_key(text)
    except InvalidKeyError as error:
        raise ConfigError([f"[auth] hmac_secret: {error}"]) from None
