"""Which tokens are accepted, what they are turned into, and why others are not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth import KeySet, Override, SubscriptionGrant, TokenVerifier
from gateway.clock import FakeClock
from gateway.errors import TokenError, TokenExpired, TokenInvalid

SECRET = "a secret that is long enough for HS256"
OTHER = "another secret, long enough as well, or so"
NOW = 1_000_000.0


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(payload: bytes, header: bytes = b'{"alg":"HS256","typ":"JWT"}', secret: str = SECRET) -> str:
    """A token with a valid signature around any bytes."""
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(hmac.digest(secret.encode(), message.encode(), 'sha256'))}"


def token(secret: str = SECRET, /, **claims: Any) -> str:
    return signed(json.dumps({"sub": "42", **claims}).encode(), secret=secret)


@pytest.fixture
def verifier(clock: FakeClock) -> TokenVerifier:
    return TokenVerifier(KeySet(hmac_secret=SECRET, clock=clock), leeway_s=5, clock=clock)


def make_verifier(**settings: Any) -> TokenVerifier:
    clock = FakeClock(NOW)
    return TokenVerifier(KeySet(hmac_secret=SECRET, clock=clock), clock=clock, **settings)


# What a connection token says


def test_every_claim_of_a_connection_token_arrives(verifier: TokenVerifier) -> None:
    claims = verifier.verify_connection(
        token(
            sub="42",
            exp=NOW + 60,
            iat=NOW - 1,
            nbf=NOW - 1,
            jti="t-1",
            info={"name": "Ada"},
            meta={"tenant": 7},
            channels=["news", "chat:1"],
            subs={
                "room": {
                    "info": {"role": "host"},
                    "b64data": base64.b64encode(b'{"hello":1}').decode(),
                    "override": {"presence": {"value": True}, "join_leave": {"value": False}},
                },
                "plain": {},
                "nothing": None,
            },
        )
    )
    assert claims.user == "42"
    assert claims.expires_at == NOW + 60
    assert claims.issued_at == NOW - 1
    assert claims.token_id == "t-1"
    assert claims.info == b'{"name": "Ada"}'
    assert claims.meta == b'{"tenant": 7}'
    assert claims.channels == ("news", "chat:1")
    assert claims.subs == {
        "room": SubscriptionGrant(
            info=b'{"role": "host"}', data=b'{"hello":1}', override=Override(presence=True, join_leave=False)
        ),
        "plain": SubscriptionGrant(),
        "nothing": SubscriptionGrant(),
    }


def test_a_token_with_a_user_alone_never_expires(verifier: TokenVerifier) -> None:
    claims = verifier.verify_connection(token())
    assert (claims.user, claims.expires_at, claims.info, claims.meta) == ("42", None, None, None)
    assert (claims.channels, claims.subs, claims.token_id, claims.issued_at) == ((), {}, "", None)


def test_claims_that_are_null_are_absent(verifier: TokenVerifier) -> None:
    absent = dict.fromkeys(("info", "b64info", "channels", "subs", "meta", "jti", "aud", "iss", "channel", "expire_at"))
    assert verifier.verify_connection(token(**absent)) == verifier.verify_connection(token())


def test_base64_information_is_decoded_and_wins(verifier: TokenVerifier) -> None:
    encoded = base64.b64encode(b'{"a": "\xc3\xa9"}').decode()
    assert verifier.verify_connection(token(info={"b": 1}, b64info=encoded)).info == b'{"a": "\xc3\xa9"}'


def test_base64_information_that_is_no_json_is_binary_data(verifier: TokenVerifier) -> None:
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert verifier.verify_connection(token(b64info=encoded)).info == b'{"$binary":"AP8="}'


def test_information_is_one_line(verifier: TokenVerifier) -> None:
    """A newline inside would cut a JSON frame in two."""
    assert verifier.verify_connection(signed(b'{"sub":"42","info":{"a":\n1}}')).info == b'{"a": 1}'


@pytest.mark.parametrize("encoded", ["%%%", "e30", "é"])
def test_information_that_is_no_base64_is_refused(verifier: TokenVerifier, encoded: str) -> None:
    with pytest.raises(TokenInvalid, match="b64info"):
        verifier.verify_connection(token(b64info=encoded))


# What a subscription token says


def test_every_claim_of_a_subscription_token_arrives(verifier: TokenVerifier) -> None:
    claims = verifier.verify_subscription(
        token(
            channel="$secret",
            client="c-1",
            exp=NOW + 60,
            jti="t-2",
            info={"i": 1},
            data={"d": 1},
            override={"force_recovery": {"value": True}, "force_positioning": {}},
        )
    )
    assert (claims.user, claims.channel, claims.client, claims.token_id) == ("42", "$secret", "c-1", "t-2")
    assert (claims.expires_at, claims.info, claims.data) == (NOW + 60, b'{"i": 1}', b'{"d": 1}')
    assert claims.override == Override(force_recovery=True, force_positioning=False)


def test_the_two_kinds_of_token_do_not_stand_in_for_each_other(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenInvalid, match="subscription token"):
        verifier.verify_connection(token(channel="news"))
    with pytest.raises(TokenInvalid, match="subscription token"):
        verifier.verify_connection(token(channel=""))
    with pytest.raises(TokenInvalid, match="must have a channel"):
        verifier.verify_subscription(token())


# Users


@pytest.mark.parametrize("claims", [{"sub": ""}, {"sub": None}])
def test_a_token_without_a_user_needs_anonymous_clients_to_be_allowed(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid, match="anonymous"):
        make_verifier().verify_connection(token(**claims))
    assert make_verifier(anonymous=True).verify_connection(token(**claims)).user == ""


# Times


def test_an_expired_token_is_told_apart_from_an_invalid_one(verifier: TokenVerifier, clock: FakeClock) -> None:
    short = token(exp=NOW + 10)
    clock.advance(14.9)
    assert verifier.verify_connection(short).expires_at == NOW + 10  # within the leeway
    clock.advance(0.1)
    with pytest.raises(TokenExpired):
        verifier.verify_connection(short)


@pytest.mark.parametrize("exp", [0, -1, -1e300])
def test_expiry_before_1970_is_expiry(verifier: TokenVerifier, exp: float) -> None:
    with pytest.raises(TokenExpired):
        verifier.verify_connection(token(exp=exp))


def test_a_forged_expired_token_is_invalid_not_expired(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenInvalid):
        verifier.verify_connection(token(OTHER, exp=1))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_is_invalid(verifier: TokenVerifier, claim: str) -> None:
    assert verifier.verify_connection(token(**{claim: NOW + 5}))
    with pytest.raises(TokenInvalid, match=claim):
        verifier.verify_connection(token(**{claim: NOW + 6}))


def test_expire_at_replaces_exp_for_the_life_of_the_connection(verifier: TokenVerifier, clock: FakeClock) -> None:
    assert verifier.verify_connection(token(exp=NOW + 10, expire_at=NOW + 3600)).expires_at == NOW + 3600
    for never in (0, -1):
        assert verifier.verify_connection(token(exp=NOW + 10, expire_at=never)).expires_at is None
    with pytest.raises(TokenExpired):
        verifier.verify_connection(token(exp=NOW + 10, expire_at=NOW - 60))
    clock.advance(60)
    with pytest.raises(TokenExpired):  # exp still decides whether the token is accepted now
        verifier.verify_connection(token(exp=NOW + 10, expire_at=NOW + 3600))


def test_expire_at_works_for_subscriptions_as_well(verifier: TokenVerifier) -> None:
    assert verifier.verify_subscription(token(channel="a", exp=NOW + 10, expire_at=NOW + 99)).expires_at == NOW + 99


# Audience and issuer


@pytest.mark.parametrize("aud", ["app", ["app"], ["other", "app"]])
def test_the_audience_may_be_one_of_several(aud: object) -> None:
    assert make_verifier(audience="app").verify_connection(token(aud=aud)).user == "42"


@pytest.mark.parametrize("aud", ["application", "", [], ["other"], None, "ap"])
def test_a_token_for_another_audience_is_refused(aud: object) -> None:
    with pytest.raises(TokenInvalid, match="aud"):
        make_verifier(audience="app").verify_connection(token(aud=aud))
    with pytest.raises(TokenInvalid, match="aud"):
        make_verifier(audience="app").verify_connection(token())


@pytest.mark.parametrize("claims", [{"iss": "evil"}, {"iss": ""}, {"iss": None}, {}])
def test_a_token_of_another_issuer_is_refused(claims: dict[str, Any]) -> None:
    verifier = make_verifier(issuer="https://issuer.example")
    with pytest.raises(TokenInvalid, match="iss"):
        verifier.verify_connection(token(**claims))
    assert verifier.verify_connection(token(iss="https://issuer.example")).user == "42"


def test_audience_and_issuer_are_not_looked_at_unless_configured(verifier: TokenVerifier) -> None:
    assert verifier.verify_connection(token(aud=["whoever"], iss="whoever")).user == "42"


# Form


def test_a_token_of_pyjwt_is_accepted(verifier: TokenVerifier) -> None:
    for algorithm in ("HS256", "HS384", "HS512"):
        made = jwt.encode({"sub": "ü", "exp": int(NOW) + 1}, SECRET * 2, algorithm)
        wide = TokenVerifier(KeySet(hmac_secret=SECRET * 2, clock=FakeClock(NOW)), clock=FakeClock(NOW))
        assert wide.verify_connection(made).user == "ü"


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a.b", "a.b.c.d", "é.é.é", "e30.e30.", "null", " ", "{}", "a" * 16_385, "e30=.e30=.e30="],
)
def test_what_is_no_token_is_invalid(verifier: TokenVerifier, text: str) -> None:
    with pytest.raises(TokenInvalid):
        verifier.verify_connection(text)


def test_a_token_of_the_largest_size_is_accepted_and_one_character_more_is_not(verifier: TokenVerifier) -> None:
    def of_size(size: int) -> str:
        return next(
            made for filler in range(11_000, 12_500) if len(made := token(info="x" * filler)) in (size, size + 1)
        )

    assert len(verifier.verify_connection(of_size(16_382)).info or b"") > 12_000
    with pytest.raises(TokenInvalid, match="characters"):
        verifier.verify_connection(of_size(16_385))


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("damage", ["A", "=", "+", "/", "!", "\n", " ", "é"])
def test_a_token_with_anything_added_is_invalid(verifier: TokenVerifier, position: int, damage: str) -> None:
    parts = token().split(".")
    parts[position] += damage
    with pytest.raises(TokenInvalid):
        verifier.verify_connection(".".join(parts))


def test_every_changed_character_of_a_signature_makes_it_invalid(verifier: TokenVerifier) -> None:
    made = token()
    message, signature = made.rsplit(".", 1)
    for index in range(len(signature) - 1):  # the last one has spare bits
        changed = "A" if signature[index] != "A" else "B"
        with pytest.raises(TokenInvalid, match="signature"):
            verifier.verify_connection(f"{message}.{signature[:index]}{changed}{signature[index + 1 :]}")


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b'"HS256"',
        b"null",
        b"not JSON",
        b'{"alg":null}',
        b'{"alg":256}',
        b'{"alg":["HS256"]}',
        b'{"alg":"HS256","kid":7}',
        b'{"alg":"HS256","crit":["b64"],"b64":false}',
        b'{"alg":"HS256","crit":[]}',
        b'{"alg":"HS1"}',
        b'{"alg":"hs256"}',
        b'{"alg":"HS256 "}',
        b'{"alg":""}',
        b'{"alg":"RS256"}',
        b'{"alg":"PS256"}',
        b'{"alg":"dir","enc":"A128GCM"}',
    ],
)
def test_a_header_that_is_not_understood_is_refused(verifier: TokenVerifier, header: bytes) -> None:
    with pytest.raises(TokenInvalid):
        verifier.verify_connection(signed(b'{"sub":"42"}', header))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("with_signature", [True, False])
def test_alg_none_is_refused(verifier: TokenVerifier, alg: str, with_signature: bool) -> None:
    made = signed(b'{"sub":"42"}', json.dumps({"alg": alg}).encode())
    with pytest.raises(TokenInvalid):
        verifier.verify_connection(made if with_signature else made.rsplit(".", 1)[0] + ".")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"42",
        b'"42"',
        b"not JSON",
        b"\xff\xfe",
        b'{"sub":"\xff"}',
        b'{"sub":"42","info":"\xff"}',
        b'{"sub":42}',
        b'{"sub":["42"]}',
        b'{"sub":true}',
        b'{"sub":{}}',
        b'{"sub":"42","exp":"9999999999"}',
        b'{"sub":"42","exp":true}',
        b'{"sub":"42","exp":null}',
        b'{"sub":"42","exp":NaN}',
        b'{"sub":"42","exp":Infinity}',
        b'{"sub":"42","exp":1e999}',
        b'{"sub":"42","expire_at":1e999}',
        b'{"sub":"42","expire_at":"soon"}',
        b'{"sub":"42","nbf":1e999}',
        b'{"sub":"42","iat":[]}',
        b'{"sub":"42","aud":7}',
        b'{"sub":"42","aud":[7]}',
        b'{"sub":"42","iss":[]}',
        b'{"sub":"42","jti":7}',
        b'{"sub":"42","channels":"news"}',
        b'{"sub":"42","channels":[7]}',
        b'{"sub":"42","channels":{"a":{}}}',
        b'{"sub":"42","subs":["news"]}',
        b'{"sub":"42","subs":{"news":7}}',
        b'{"sub":"42","subs":{"news":{"override":{"presence":true}}}}',
        b'{"sub":"42","subs":{"news":{"override":{"presence":{"value":1}}}}}',
        b'{"sub":"42","b64info":7}',
        b'{"sub":"42"} {"sub":"43"}',
        b'{"sub":"42","info":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_a_payload_of_the_wrong_form_is_invalid(verifier: TokenVerifier, payload: bytes) -> None:
    with pytest.raises(TokenInvalid):
        verifier.verify_connection(signed(payload))


def test_huge_numbers_that_are_numbers_are_times(verifier: TokenVerifier) -> None:
    assert verifier.verify_connection(signed(b'{"sub":"42","exp":1%s}' % (b"0" * 30))).expires_at == 1e30


def test_messages_do_not_repeat_the_token(verifier: TokenVerifier) -> None:
    made = token(OTHER, exp=NOW + 5)
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify_connection(made)
    assert not any(part in str(caught.value) for part in made.split("."))


# Invariants


def json_values(*, only_valid: bool = False) -> st.SearchStrategy[Any]:
    floats = st.floats(allow_nan=not only_valid, allow_infinity=not only_valid)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )


JSON = json_values()
CLAIM_NAMES = st.sampled_from(
    [
        "sub",
        "exp",
        "nbf",
        "iat",
        "aud",
        "iss",
        "jti",
        "expire_at",
        "info",
        "b64info",
        "channels",
        "subs",
        "meta",
        "channel",
        "client",
        "data",
        "b64data",
        "override",
    ]
)


def raises_only_token_errors(text: str) -> None:
    for verifier in (make_verifier(), make_verifier(audience="a", issuer="b", anonymous=True, leeway_s=300)):
        for verify in (verifier.verify_connection, verifier.verify_subscription):
            with contextlib.suppress(TokenError):
                verify(text)


@settings(deadline=None)  # the machine may be busy
@given(st.text() | st.lists(st.text(st.characters(max_codepoint=127)), min_size=3, max_size=3).map(".".join))
def test_no_text_raises_anything_but_a_token_error(text: str) -> None:
    raises_only_token_errors(text)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(), st.binary())
def test_no_header_and_no_payload_raise_anything_but_a_token_error(header: bytes, payload: bytes) -> None:
    raises_only_token_errors(signed(payload, header))
    raises_only_token_errors(signed(payload))


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(CLAIM_NAMES, JSON), st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "b64"]), JSON))
def test_no_signed_claims_raise_anything_but_a_token_error(claims: dict[str, Any], header: dict[str, Any]) -> None:
    raises_only_token_errors(signed(json.dumps(claims).encode()))
    raises_only_token_errors(signed(json.dumps({"sub": "42", **claims}).encode()))
    raises_only_token_errors(signed(json.dumps(claims).encode(), json.dumps(header).encode()))


@settings(deadline=None)  # the machine may be busy
@given(st.text(min_size=1).filter(lambda text: text.isprintable()), json_values(only_valid=True))
def test_user_and_information_survive(user: str, info: Any) -> None:
    document = json.dumps(info)
    made = signed(json.dumps({"sub": user}).encode()[:-1] + b',"info":' + document.encode() + b"}")
    try:
        claims = make_verifier().verify_connection(made)
    except TokenInvalid:
        # Numbers beyond 64 bits and lone surrogates are JSON that the encodings on the way do not carry.
        return
    assert claims.user == user
    assert claims.info == (None if document == "null" else document.encode())


def test_sha256_is_what_hs256_means() -> None:
    """The helper above signs without our own code: it must be the real thing."""
    assert jwt.decode(token(), SECRET, ["HS256"]) == {"sub": "42"}
    assert hashlib.sha256().digest_size == len(base64.urlsafe_b64decode(token().rsplit(".", 1)[1] + "="))
