"""Every way to prove who one is, end to end: secrets and their rotation, key sets, nobody, anybody."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import SECRET, Gateway, encode_token, serving

PREVIOUS = "the secret before the last rotation, long enough for HS512 as well"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
KEYS: Mapping[str, Any] = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
PING_S = 1.5


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    key_set = tmp_path_factory.mktemp("keys") / "jwks.json"
    write_key_set(key_set)
    config = {
        "auth": {
            "hmac_secret": SECRET,
            "hmac_secret_previous": PREVIOUS,
            "jwks_url": str(key_set),
            "leeway_s": 0,
            "expired_close_delay_s": 0,
        },
        "keepalive": {"ping_interval_s": PING_S, "pong_timeout_s": PING_S - 0.1},
    }
    with serving(config) as gateway:
        yield gateway


def write_key_set(path: Path) -> None:
    makers = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    entries = [
        json.loads(makers[name].to_jwk(key.public_key())) | {"kid": f"key-{name}", "use": "sig", "alg": name}
        for name, key in KEYS.items()
    ]
    path.write_text(json.dumps({"keys": entries}))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", [SECRET, PREVIOUS], ids=["current", "previous"])
async def test_the_current_and_the_previous_secret_are_accepted(
    secret: str, algorithm: str, open_client: OpenClient
) -> None:
    client = await open_client(token=encode_token({"sub": "ada"}, secret, algorithm))
    assert "#ada" in client.connected["subs"]


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_key_of_the_key_set_is_accepted(algorithm: str, gateway: Gateway, open_client: OpenClient) -> None:
    key = KEYS[algorithm]
    client = await open_client(token=encode_token({"sub": "ada"}, key, algorithm, kid=f"key-{algorithm}"))
    claims = {"sub": "ada", "channel": "$plans"}
    await client.subscribe("$plans", token=encode_token(claims, key, algorithm))  # one key per algorithm: no kid needed
    gateway.publish("#ada", algorithm)
    assert await client.wait_data("#ada") == [algorithm]


@pytest.mark.parametrize("algorithm", KEYS)
async def test_another_key_under_a_known_name_is_refused(algorithm: str, open_client: OpenClient) -> None:
    forged = {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }[algorithm]
    token = encode_token({"sub": "admin"}, forged, algorithm, kid=f"key-{algorithm}")
    await assert_refused(await open_client(None), token)


@pytest.mark.parametrize("key_form", ["pem", "der", "jwk"])
async def test_a_public_key_used_as_a_secret_is_refused(key_form: str, open_client: OpenClient) -> None:
    """Algorithm confusion (RFC 8725 §2.1): everyone knows the public key, so HMAC under it must prove nothing."""
    public = RSA_KEY.public_key()
    key = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": RSAAlgorithm.to_jwk(public).encode(),
    }[key_form]
    signer = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head, body, _ = encode_token({"sub": "admin"}, SECRET, kid="key-RS256").split(".")
    signature = jwt.utils.base64url_encode(signer.sign(f"{head}.{body}".encode(), key)).decode()
    await assert_refused(await open_client(None), f"{head}.{body}.{signature}")


async def test_an_unknown_key_is_a_temporary_error_because_the_key_set_may_be_about_to_have_it(
    open_client: OpenClient,
) -> None:
    client = await open_client(None)
    token = encode_token({"sub": "ada"}, ED_KEY, "EdDSA", kid="key-of-tomorrow")
    error = await client.error(connect={"token": token})
    assert (error["code"], error["temporary"]) == (100, True)


async def test_a_connection_that_is_not_refreshed_ends_with_3005_and_one_that_is_goes_on(
    gateway: Gateway, open_client: OpenClient
) -> None:
    token = encode_token({"sub": "ada", "exp": time.time() + 2})
    expiring, refreshed = await open_client(token=token), await open_client(token=token)
    for client in (expiring, refreshed):
        assert client.connected["expires"] is True
        assert client.connected["ttl"] in (1, 2)
    result = await refreshed.call(refresh={"token": gateway.token("ada", ttl_s=600)})
    assert (result["client"], result["expires"]) == (refreshed.id, True)
    assert 590 <= result["ttl"] <= 600
    assert await expiring.wait_closed() == (3005, "connection expired")
    assert refreshed.open_still
    assert await refreshed.call(ping={}) == {}


async def test_a_subscription_that_is_not_refreshed_ends_with_2501_and_the_client_stays(
    gateway: Gateway, open_client: OpenClient
) -> None:
    client = await open_client("ada")
    for channel in ("$short", "$renewed"):
        claims = {"sub": "ada", "channel": channel, "exp": time.time() + 2}
        await client.subscribe(channel, token=encode_token(claims))
    fresh = gateway.token("ada", channel="$renewed", ttl_s=600)
    assert (await client.call(sub_refresh={"channel": "$renewed", "token": fresh}))["expires"] is True
    await client.wait(lambda: [push for push in client.pushes if "unsubscribe" in push], "the subscription ends")
    assert client.pushes == [{"channel": "$short", "unsubscribe": {"code": 2501, "reason": "expired"}}]
    gateway.publish("$renewed", 1)
    gateway.publish("$short", 2)
    gateway.publish("#ada", 3)
    await client.wait_data("#ada")
    assert client.data("$renewed") == [1]
    assert client.data("$short") == []


async def test_nobody_comes_in_without_a_token_unless_it_is_configured(open_client: OpenClient) -> None:
    await assert_refused(await open_client(None), "")
    await assert_refused(await open_client(None), encode_token({"sub": ""}))


async def assert_refused(client: Client, token: str) -> None:
    with pytest.raises(ConnectionError):
        await client.connect(token)
    assert await client.wait_closed() == (3500, "invalid token")
