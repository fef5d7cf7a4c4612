"""Which key a token is checked with, and how the key set stays fresh."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from gateway.auth import KeySet, TokenVerifier, UnknownKey
from gateway.clock import FakeClock
from gateway.config import Auth
from gateway.errors import ConfigError, TokenInvalid
from tests.support.waiting import wait_until

SECRET = "a secret that is long enough for HS256"
OTHER = "another secret, long enough as well, or so"
CLAIMS = {"sub": "42"}


def verifier_of(keys: KeySet, clock: FakeClock) -> TokenVerifier:
    return TokenVerifier(keys, clock=clock)


async def read(clock: FakeClock, path: Path, *entries: dict[str, Any], **settings: Any) -> KeySet:
    path.write_text(json.dumps({"keys": entries}))  # noqa: ASYNC240
    keys = KeySet(jwks_url=str(path), clock=clock, **settings)
    assert await keys.refresh()
    return keys


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    return tmp_path / "jwks.json"


# Secrets


def test_tokens_of_the_previous_secret_are_accepted_until_it_is_removed(clock: FakeClock) -> None:
    old = jwt.encode(CLAIMS, OTHER, "HS256")
    new = jwt.encode(CLAIMS, SECRET, "HS256")
    rotating = KeySet.from_settings(Auth(hmac_secret=SECRET, hmac_secret_previous=OTHER), clock=clock)
    for made in (old, new):
        assert verifier_of(rotating, clock).verify_connection(made).user == "42"
    with pytest.raises(TokenInvalid, match="does not match"):
        verifier_of(KeySet(hmac_secret=SECRET, clock=clock), clock).verify_connection(old)


def test_without_a_secret_no_hmac_token_is_accepted(clock: FakeClock) -> None:
    for secret in (SECRET, "\0" * 32):
        with pytest.raises(TokenInvalid, match=r"no .* hmac_secret"):
            verifier_of(KeySet(clock=clock), clock).verify_connection(jwt.encode(CLAIMS, secret, "HS256"))


def test_without_a_key_set_no_public_key_token_is_accepted(clock: FakeClock, signers: dict[str, Any]) -> None:
    for signer in signers.values():
        with pytest.raises(TokenInvalid, match=r"no .* jwks_url"):
            verifier_of(KeySet(hmac_secret=SECRET, clock=clock), clock).verify_connection(signer.sign(CLAIMS))


# Public keys


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_is_checked_with_the_key_that_it_names(
    clock: FakeClock, jwks_file: Path, signers: dict[str, Any], algorithm: str
) -> None:
    keys = await read(clock, jwks_file, *(signer.jwk() for signer in signers.values()))
    verifier = verifier_of(keys, clock)
    made = signers[algorithm].sign(CLAIMS)
    assert verifier.verify_connection(made).user == "42"
    message, signature = made.rsplit(".", 1)
    for changed in (signature[:-4], signature + "AAAA", ("A" if signature[0] != "A" else "B") + signature[1:], ""):
        with pytest.raises(TokenInvalid, match="does not match"):
            verifier.verify_connection(f"{message}.{changed}")


async def test_a_token_without_kid_needs_a_key_set_with_one_key_for_its_algorithm(
    clock: FakeClock, jwks_file: Path, signers: dict[str, Any], make_signer: Callable[..., Any]
) -> None:
    made = signers["ES256"].sign(CLAIMS, kid="")
    alone = await read(clock, jwks_file, signers["ES256"].jwk(), signers["RS256"].jwk())
    assert verifier_of(alone, clock).verify_connection(made).user == "42"
    several = await read(clock, jwks_file, signers["ES256"].jwk(), make_signer("ES256", "second").jwk())
    with pytest.raises(TokenInvalid, match="no kid"):
        verifier_of(several, clock).verify_connection(made)


async def test_the_right_kid_with_the_wrong_key_is_refused(
    clock: FakeClock, jwks_file: Path, signers: dict[str, Any], make_signer: Callable[..., Any]
) -> None:
    keys = await read(clock, jwks_file, signers["RS256"].jwk())
    with pytest.raises(TokenInvalid, match="does not match"):
        verifier_of(keys, clock).verify_connection(make_signer("RS256", signers["RS256"].kid).sign(CLAIMS))


# Algorithm confusion


@pytest.mark.parametrize("family", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("with_secret", [False, True])
async def test_a_public_key_is_no_hmac_secret(
    clock: FakeClock, jwks_file: Path, signers: dict[str, Any], family: str, algorithm: str, with_secret: bool
) -> None:
    """The classic: sign with HMAC, the text of the public key being the secret."""
    keys = await read(clock, jwks_file, signers[family].jwk(), hmac_secret=SECRET if with_secret else "")
    public = signers[family].key.public_key()
    known_to_all = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        json.dumps(signers[family].jwk()).encode(),
    ]
    plain = jwt.PyJWS()
    for secret in known_to_all:
        message, _ = plain.encode(
            json.dumps(CLAIMS).encode(), SECRET * 2, algorithm, {"kid": signers[family].kid}
        ).rsplit(".", 1)
        forged = jwt.get_algorithm_by_name(algorithm).sign(message.encode(), secret)
        with pytest.raises(TokenInvalid):
            verifier_of(keys, clock).verify_connection(f"{message}.{jwt.utils.base64url_encode(forged).decode()}")


def test_a_public_key_is_refused_as_a_secret(clock: FakeClock, signers: dict[str, Any]) -> None:
    pem = signers["ES256"].key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for secret in (pem, json.dumps(signers["ES256"].jwk())):
        with pytest.raises(ConfigError, match="should not be used"):
            KeySet(hmac_secret=secret, clock=clock)


async def test_a_key_verifies_its_own_algorithm_only(
    clock: FakeClock, jwks_file: Path, signers: dict[str, Any]
) -> None:
    keys = await read(clock, jwks_file, *(signer.jwk() for signer in signers.values()))
    rsa = signers["RS256"]
    for algorithm in ("RS384", "RS512", "PS256", "PS384", "PS512"):
        with pytest.raises(TokenInvalid, match="not allowed"):
            verifier_of(keys, clock).verify_connection(jwt.encode(CLAIMS, rsa.key, algorithm, {"kid": rsa.kid}))
    for header in ("ES256", "EdDSA"):  # names another family than its kid
        with pytest.raises(UnknownKey):
            verifier_of(keys, clock).verify_connection(signers[header].sign(CLAIMS, kid=rsa.kid))


# Keeping the key set fresh


async def test_an_unknown_kid_is_looked_for_once(
    clock: FakeClock, key_server: Any, signers: dict[str, Any], make_signer: Callable[..., Any]
) -> None:
    """The client is told to come back; when it does, the set has been read again and the answer is final."""
    key_server.serve(signers["ES256"].jwk())
    keys = KeySet(jwks_url=key_server.url, clock=clock)
    await keys.refresh()
    stranger = make_signer("ES256", "stranger").sign(CLAIMS)
    verifier = verifier_of(keys, clock)
    for _ in range(3):
        with pytest.raises(UnknownKey):
            verifier.verify_connection(stranger)
    await keys.refresh()
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify_connection(stranger)
    assert not isinstance(caught.value, UnknownKey)


async def test_a_new_key_of_the_issuer_is_fetched_when_a_token_names_it(
    clock: FakeClock, key_server: Any, signers: dict[str, Any], make_signer: Callable[..., Any]
) -> None:
    key_server.serve(signers["ES256"].jwk())
    keys = KeySet(jwks_url=key_server.url, clock=clock)
    verifier = verifier_of(keys, clock)
    running = asyncio.create_task(keys.run())
    await key_server.wait_asked()

    new = make_signer("ES256", "new")
    key_server.serve(new.jwk())
    with pytest.raises(UnknownKey):
        verifier.verify_connection(new.sign(CLAIMS))
    clock.advance(9.9)
    for _ in range(5):  # too early for another reading
        with pytest.raises(UnknownKey):
            verifier.verify_connection(new.sign(CLAIMS))
    assert key_server.requests == 1
    clock.advance(0.1)
    with pytest.raises(UnknownKey):
        verifier.verify_connection(new.sign(CLAIMS))
    await key_server.wait_asked()

    def user() -> str:
        with contextlib.suppress(UnknownKey):
            return verifier.verify_connection(new.sign(CLAIMS)).user
        return ""

    assert await wait_until(user, "the new key is known") == "42"
    assert key_server.requests == 2
    with pytest.raises(UnknownKey):  # the retired one is gone
        verifier.verify_connection(signers["ES256"].sign(CLAIMS))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_failing_reading_keeps_the_old_keys_and_is_logged(
    clock: FakeClock, key_server: Any, signers: dict[str, Any]
) -> None:
    key_server.serve(signers["EdDSA"].jwk())
    with capture_logs() as logs:
        keys = KeySet(jwks_url=key_server.url, clock=clock)
        assert await keys.refresh()
        key_server.status = 503
        assert not await keys.refresh()
    assert verifier_of(keys, clock).verify_connection(signers["EdDSA"].sign(CLAIMS)).user == "42"
    failed = logs[-1]
    assert (failed["event"], failed["log_level"], failed["keys_in_use"]) == ("key set not read", "error", 1)
    assert "503" in failed["error"]


async def test_before_the_first_reading_clients_are_told_to_come_back(
    clock: FakeClock, signers: dict[str, Any], tmp_path: Path
) -> None:
    keys = KeySet(jwks_url=str(tmp_path / "missing.json"), clock=clock)
    for _ in range(2):
        with pytest.raises(UnknownKey):
            verifier_of(keys, clock).verify_connection(signers["RS256"].sign(CLAIMS))
        assert not await keys.refresh()


async def test_a_bad_entry_is_logged_once(clock: FakeClock, jwks_file: Path, signers: dict[str, Any]) -> None:
    with capture_logs() as logs:
        keys = await read(clock, jwks_file, signers["RS256"].jwk(), {"kty": "oct", "k": "c2VjcmV0"})
        await keys.refresh()
    assert [entry["problem"] for entry in logs if entry["event"] == "key skipped"] == [
        "keys[1]: a symmetric key; a secret belongs into [auth] hmac_secret"
    ]


async def test_without_a_key_set_there_is_nothing_to_keep_fresh(clock: FakeClock) -> None:
    await KeySet(hmac_secret=SECRET, clock=clock).run()


async def test_invented_kids_cost_no_memory(clock: FakeClock, jwks_file: Path, signers: dict[str, Any]) -> None:
    keys = await read(clock, jwks_file, signers["ES256"].jwk())
    for number in range(3000):
        with pytest.raises(UnknownKey):
            keys.verify("ES256", f"invented-{number}", b"", b"")
    assert len(keys._missing) == 1000
    with pytest.raises(TokenInvalid, match="257 characters"):
        keys.verify("ES256", "k" * 257, b"", b"")
