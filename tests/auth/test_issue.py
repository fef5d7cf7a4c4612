"""Tokens of our own making are tokens that we accept."""

from __future__ import annotations

import jwt
import pytest

from gateway.auth import KeySet, TokenVerifier, sign_token
from gateway.clock import FakeClock
from gateway.errors import TokenExpired

SECRET = "a secret that is long enough for HS256"


@pytest.fixture
def verifier(clock: FakeClock) -> TokenVerifier:
    return TokenVerifier(KeySet(hmac_secret=SECRET, clock=clock), audience="app", issuer="me", clock=clock)


def test_a_connection_token_is_accepted_until_its_time_is_over(verifier: TokenVerifier, clock: FakeClock) -> None:
    made = sign_token(
        SECRET, user="42", issued_at=clock.time(), ttl_s=60, info={"name": "Ada"}, audience="app", issuer="me"
    )
    claims = verifier.verify_connection(made)
    assert (claims.user, claims.expires_at, claims.info) == ("42", clock.time() + 60, b'{"name":"Ada"}')
    assert claims.issued_at == clock.time()
    clock.advance(60)
    with pytest.raises(TokenExpired):
        verifier.verify_connection(made)


def test_a_subscription_token_is_accepted(verifier: TokenVerifier, clock: FakeClock) -> None:
    made = sign_token(
        SECRET, user="42", issued_at=clock.time(), ttl_s=None, channel="$room", audience="app", issuer="me"
    )
    claims = verifier.verify_subscription(made)
    assert (claims.user, claims.channel, claims.expires_at) == ("42", "$room", None)


def test_claims_that_are_not_wanted_are_not_there() -> None:
    made = sign_token(SECRET, user="42", issued_at=1.9, ttl_s=None)
    assert jwt.decode(made, options={"verify_signature": False}) == {"sub": "42", "iat": 1}
    assert jwt.get_unverified_header(made)["alg"] == "HS256"
