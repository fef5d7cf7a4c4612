"""Reading a JSON Web Key Set (RFC 7517): from where it is, and into keys that are each bound to one algorithm.

An entry that cannot be used is skipped and named, so that one new kind of key at the issuer does not lock everyone out.
Symmetric and private keys are refused even if they would work: a document that many may read is no place for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError
from msgspec import Raw

from gateway.config.base import check_jwks_url

FETCH_TIMEOUT_S: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 262_144
MAX_KEYS: Final = 64
RSA_BITS: Final = range(2048, 8193)

_HEADERS: Final = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_BY_TYPE: Final[Mapping[tuple[str, str], str]] = {
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""(`kty`, `crv`) → the one algorithm that such a key is used with."""


class _Document(msgspec.Struct):
    keys: list[Raw]


class _Entry(msgspec.Struct):
    kty: str
    crv: str = ""
    kid: str = ""
    use: str = ""
    alg: str = ""
    key_ops: tuple[str, ...] = ("verify",)


class PublicKey:
    """A public key together with the only algorithm that it verifies."""

    ALGORITHMS: ClassVar[Mapping[str, Algorithm]] = {
        "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
        "ES256": ECAlgorithm(ECAlgorithm.SHA256, SECP256R1),
        "EdDSA": OKPAlgorithm(),
    }

    __slots__ = ("_algorithm", "_key", "algorithm")

    def __init__(self, algorithm: str, key: object) -> None:
        self.algorithm = algorithm
        self._algorithm = self.ALGORITHMS[algorithm]
        self._key = key

    def verify(self, message: bytes, signature: bytes) -> bool:
        """True when `signature` is this key's under `message`."""
        return self._algorithm.verify(message, self._key, signature)


Keys = Mapping[tuple[str, str], PublicKey]
"""(algorithm, `kid` or "") → key."""


async def read_jwks(source: str) -> tuple[Keys, list[str]]:
    """The usable keys behind `source` (URL or file path), and one line for each entry that was skipped.

    Raises OSError or ValueError when the document cannot be had or is no key set.
    """
    if "://" in source:
        check_jwks_url(source)
        document = await _fetch(source)
    else:
        document = await asyncio.to_thread(_read_file, Path(source))
    return parse_jwks(document)


def parse_jwks(document: bytes) -> tuple[Keys, list[str]]:
    """The usable keys of a JWKS document, and one line for each entry that was skipped. Raises ValueError."""
    try:
        entries = msgspec.json.decode(document, type=_Document).keys
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f'not a key set, {{"keys": [...]}} is expected: {error}') from None
    if len(entries) > MAX_KEYS:
        raise ValueError(f"{len(entries)} keys, {MAX_KEYS} are allowed")
    keys: dict[tuple[str, str], PublicKey] = {}
    problems = []
    for position, entry in enumerate(entries):
        try:
            key_id, key = _public_key(entry)
        except (ValueError, RecursionError) as error:
            problems.append(f"keys[{position}]: {error}")
            continue
        if (key.algorithm, key_id) in keys:
            problems.append(f"keys[{position}]: another key has the kid {key_id!r}")
        else:
            keys[key.algorithm, key_id] = key
    return keys, problems


def _public_key(document: Raw) -> tuple[str, PublicKey]:
    """`kid` ("" without one) and key of one entry. Raises ValueError."""
    entry = msgspec.json.decode(document, type=_Entry)
    members = msgspec.json.decode(document, type=dict[str, Any])
    if entry.kty == "oct":
        raise ValueError("a symmetric key; a secret belongs into [auth] hmac_secret")
    if not _PRIVATE_MEMBERS.isdisjoint(members):
        raise ValueError("a private key; publish the public half only, and replace this key")
    algorithm = _BY_TYPE.get((entry.kty, entry.crv))
    if algorithm is None:
        raise ValueError(f"kty {entry.kty!r} with crv {entry.crv!r} is not RSA, EC P-256 or OKP Ed25519")
    if entry.use not in ("", "sig"):
        raise ValueError(f"use is {entry.use!r}, not 'sig'")
    if "verify" not in entry.key_ops:
        raise ValueError("key_ops does not contain 'verify'")
    if entry.alg not in ("", algorithm):
        raise ValueError(f"alg is {entry.alg!r}, {algorithm!r} is what such a key is used with here")
    return entry.kid, PublicKey(algorithm, _load(algorithm, members))


def _load(algorithm: str, members: dict[str, Any]) -> object:
    try:
        key: Any = PublicKey.ALGORITHMS[algorithm].from_jwk(members)
    except (InvalidKeyError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"unusable {algorithm} key: {error}") from None
    if algorithm == "RS256" and key.key_size not in RSA_BITS:
        raise ValueError(f"RSA key of {key.key_size} bits, {RSA_BITS.start} to {RSA_BITS.stop - 1} are allowed")
    return key


async def _fetch(url: str) -> bytes:
    import httpx  # noqa: PLC0415 - 40 ms and 10 MiB that only gateways with a key set need

    document = bytearray()
    try:
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, follow_redirects=False) as client,
            client.stream("GET", url, headers=_HEADERS) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"answered with status {response.status_code}")
            async for chunk in response.aiter_raw():
                document += chunk
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise ValueError(f"answered with more than {MAX_DOCUMENT_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    except TimeoutError as error:
        raise OSError(f"no complete answer within {FETCH_TIMEOUT_S:g} s") from error
    return bytes(document)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        document = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"more than {MAX_DOCUMENT_BYTES} bytes")
    return document
