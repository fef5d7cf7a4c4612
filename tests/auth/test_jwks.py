"""Which entries of a key set are used, and from where a key set may come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from gateway.auth import jwks
from gateway.auth.jwks import parse_jwks, read_jwks


def document(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


def test_every_allowed_kind_of_key_is_used(signers: dict[str, Any]) -> None:
    keys, problems = parse_jwks(document(*(signer.jwk() for signer in signers.values())))
    assert problems == []
    assert sorted(keys) == [("ES256", "key-ES256"), ("EdDSA", "key-EdDSA"), ("RS256", "key-RS256")]


def test_optional_members_may_be_absent(signers: dict[str, Any]) -> None:
    entry = {name: value for name, value in signers["RS256"].jwk().items() if name not in ("use", "alg", "kid")}
    keys, problems = parse_jwks(document({**entry, "key_ops": ["verify"], "x5t": "whatever"}))
    assert (list(keys), problems) == ([("RS256", "")], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use": "enc"}, "use is 'enc'"),
        ({"key_ops": ["encrypt"]}, "key_ops"),
        ({"alg": "RS512"}, "alg is 'RS512'"),
        ({"alg": "HS256"}, "alg is 'HS256'"),
        ({"alg": "none"}, "alg is 'none'"),
        ({"kty": "EC"}, "kty 'EC' with crv ''"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "symmetric"),
        ({"k": "c2VjcmV0"}, "private key"),
        ({"n": 7}, "unusable"),
        ({"n": "%%"}, "unusable|bits"),
        ({"e": None}, "unusable"),
        ({"kid": 7}, "kid"),
        ({"kty": None}, "kty"),
    ],
)
def test_an_entry_that_cannot_be_used_is_skipped_and_the_others_are_not(
    signers: dict[str, Any], change: dict[str, object], reason: str
) -> None:
    keys, problems = parse_jwks(document({**signers["RS256"].jwk(), **change}, signers["ES256"].jwk()))
    assert list(keys) == [("ES256", "key-ES256")]
    assert len(problems) == 1
    assert re.search(rf"^keys\[0\]: .*(?:{reason})", problems[0])


def test_private_keys_are_refused(signers: dict[str, Any]) -> None:
    keys, problems = parse_jwks(document(*(signer.private_jwk() for signer in signers.values())))
    assert keys == {}
    assert len(problems) == 3
    assert all("a private key" in problem for problem in problems)


def test_weak_and_foreign_keys_are_refused(make_signer: Callable[..., Any]) -> None:
    weak = make_signer("RS256", "weak", rsa.generate_private_key(65537, 1024))
    other_curve = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    keys, problems = parse_jwks(document(weak.jwk(), other_curve, "text", 7, None))
    assert keys == {}
    assert ["1024 bits" in problems[0], "P-384" in problems[1], len(problems)] == [True, True, 5]


def test_the_first_of_two_keys_with_one_kid_counts(signers: dict[str, Any], make_signer: Callable[..., Any]) -> None:
    twin = make_signer("ES256", "key-ES256")
    keys, problems = parse_jwks(document(signers["ES256"].jwk(), twin.jwk()))
    message = b"message"
    signature = jwks.PublicKey.ALGORITHMS["ES256"].sign(message, signers["ES256"].key)
    assert keys["ES256", "key-ES256"].verify(message, signature)
    assert problems == ["keys[1]: another key has the kid 'key-ES256'"]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys":{}}', b"<html>", b"\xff", b'{"keys":[' + b"{}," * 64 + b"{}]}"]
)
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"key set|allowed"):
        parse_jwks(text)


ENTRIES = st.dictionaries(
    st.sampled_from(["kty", "crv", "kid", "use", "alg", "n", "e", "x", "y", "key_ops", "d"]),
    st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "sig", "AQAB", "", "é"])
    | st.none()
    | st.integers()
    | st.text(),
)


@settings(deadline=None)  # the machine may be busy
@given(st.binary() | st.lists(ENTRIES).map(lambda entries: json.dumps({"keys": entries}).encode()))
def test_no_document_raises_anything_but_value_error(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_jwks(text)


# Where it comes from


async def test_a_file_and_a_server_give_the_same(signers: dict[str, Any], key_server: Any, tmp_path: Path) -> None:
    key_server.serve(signers["RS256"].jwk())
    (tmp_path / "jwks.json").write_bytes(key_server.body)
    for source in (key_server.url, str(tmp_path / "jwks.json")):
        keys, _ = await read_jwks(source)
        assert list(keys) == [("RS256", "key-RS256")]


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks.json",
        "http://127.0.0.1.evil.example/jwks.json",
        "http://localhost.evil.example/jwks.json",
        "http://localhost@evil.example/jwks.json",
        "https://user:password@issuer.example/jwks.json",
        "ftp://issuer.example/jwks.json",
        "file:///etc/jwks.json",
        "https:///jwks.json",
        "https://issuer.example:port/jwks.json",
    ],
)
async def test_a_url_that_others_can_tamper_with_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|Port"):
        await read_jwks(url)


@pytest.mark.parametrize("status", [301, 302, 404, 500])
async def test_only_a_plain_answer_counts(key_server: Any, status: int) -> None:
    key_server.status = status
    with pytest.raises(ValueError, match=f"status {status}"):
        await read_jwks(key_server.url)


async def test_a_huge_answer_is_not_read_to_its_end(key_server: Any) -> None:
    key_server.body = b" " * 5_000_000
    with pytest.raises(ValueError, match="more than 262144 bytes"):
        await read_jwks(key_server.url)


async def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(b" " * 300_000)
    with pytest.raises(ValueError, match="more than 262144 bytes"):
        await read_jwks(str(tmp_path / "jwks.json"))


async def test_a_server_that_is_not_there_is_an_os_error(unused_port: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="ConnectError"):
        await read_jwks(f"http://127.0.0.1:{unused_port}/")
    with pytest.raises(OSError, match="No such file"):
        await read_jwks(str(tmp_path / "missing.json"))


async def test_a_server_that_never_answers_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.05)
    left = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()
        left.set()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match=r"Timeout|within"):
            await read_jwks(f"http://127.0.0.1:{port}/")
        await left.wait()
