"""Tokens that prove nothing: refused with the code that tells the SDK what to do, and nobody else notices."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.features.conftest import OpenClient
from tests.support.gateway import SECRET, Gateway, encode_token, serving

pytestmark = pytest.mark.usefixtures("bystander")

AUDIENCE, ISSUER = "app", "https://issuer.example"
GOOD: Mapping[str, Any] = {"sub": "eve", "aud": AUDIENCE, "iss": ISSUER}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving({"auth": {"audience": AUDIENCE, "issuer": ISSUER}}) as gateway:
        gateway.token_options = {"audience": AUDIENCE, "issuer": ISSUER}
        yield gateway


def unsigned(header: Mapping[str, str], claims: Mapping[str, Any] = GOOD, signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims)]
    return ".".join([*parts, signature])


def tampered() -> str:
    header, _, signature = encode_token(GOOD).split(".")
    return unsigned({}, GOOD | {"sub": "admin"}).split(".")[1].join([f"{header}.", f".{signature}"])


@pytest.mark.parametrize(
    "token",
    [
        encode_token(GOOD, "another secret, also of more than 32 bytes"),
        tampered(),
        unsigned({"alg": "none"}),
        unsigned({"alg": "None", "typ": "JWT"}),
        unsigned({"alg": "nOnE"}, signature="e30"),
        unsigned({}),
        encode_token(GOOD | {"aud": "another-app"}),
        encode_token({"sub": "eve", "iss": ISSUER}),
        encode_token(GOOD | {"iss": "https://evil.example"}),
        encode_token(GOOD | {"nbf": time.time() + 3600}),
        encode_token(GOOD | {"channel": "news"}),
        encode_token(GOOD | {"sub": ""}),
        encode_token(GOOD | {"channels": ["bad channel"]}),
        unsigned({"alg": "HS256"}, signature="AAAA"),
        "",
        "x",
        "a.b.c",
        "." * 5000,
        "ü.ü.ü",
        "x" * 20_000,
    ],
    ids=[
        "forged",
        "tampered",
        "alg-none",
        "alg-None",
        "alg-nOnE",
        "no-alg",
        "wrong-audience",
        "no-audience",
        "wrong-issuer",
        "not-yet",
        "subscription-token",
        "no-user",
        "bad-channel",
        "short-signature",
        "none",
        "letter",
        "three-letters",
        "dots",
        "not-ascii",
        "huge",
    ],
)
async def test_a_bad_connection_token_closes_with_3500_for_good(token: str, open_client: OpenClient) -> None:
    client = await open_client(None)
    with pytest.raises(ConnectionError):
        await client.connect(token)
    assert await client.wait_closed() == (3500, "invalid token")


@pytest.mark.parametrize("claims", [{"exp": 1_000_000_000}, {"expire_at": 1_000_000_000}], ids=str)
async def test_an_expired_token_is_answered_with_109_and_a_new_one_may_follow_on_the_same_connection(
    claims: dict[str, int], open_client: OpenClient
) -> None:
    client = await open_client(None)
    assert (await client.error(connect={"token": encode_token(GOOD | claims)}))["code"] == 109
    await client.connect(encode_token(GOOD))


async def test_commands_behind_an_expired_token_are_dropped_for_the_sdk_to_repeat(open_client: OpenClient) -> None:
    client = await open_client(None)
    expired = encode_token(GOOD | {"exp": 1})
    refused, _ = await client.post({"connect": {"token": expired}}, {"subscribe": {"channel": "news"}})
    assert (await refused)["error"]["code"] == 109
    await client.connect(encode_token(GOOD))
    await client.subscribe("news")


async def test_a_refresh_with_a_forged_token_closes_with_3500(open_client: OpenClient) -> None:
    client = await open_client(token=encode_token(GOOD))
    with pytest.raises(ConnectionError):
        await client.command(refresh={"token": encode_token(GOOD, "another secret, also of more than 32 bytes")})
    assert await client.wait_closed() == (3500, "invalid token")


async def test_a_refresh_with_somebody_elses_token_closes_with_3500(open_client: OpenClient) -> None:
    client = await open_client(token=encode_token(GOOD))
    with pytest.raises(ConnectionError):
        await client.command(refresh={"token": encode_token(GOOD | {"sub": "admin"})})
    assert await client.wait_closed() == (3500, "invalid token")


async def test_no_token_and_no_secret_is_ever_logged(gateway: Gateway, open_client: OpenClient) -> None:
    good = encode_token(GOOD)
    await open_client(token=good)
    client = await open_client(None)
    bad = tampered()
    with pytest.raises(ConnectionError):
        await client.connect(bad)
    everything = "\n".join(gateway.log.seen)
    for secret in (SECRET, good.split(".")[2], bad.split(".")[2]):
        assert secret not in everything
