"""The table of codes against the protocol page: every code, and what SDKs do with it."""

from __future__ import annotations

import re

import pytest

from protocol import codes
from protocol.codes import DISCONNECTS, ERRORS, UNSUBSCRIBES, DisconnectCode, UnsubscribeCode

# As the protocol page has them.
ERROR_CODES = """
100 internal (T) · 101 unauthorized · 102 unknown channel · 103 permission denied · 104 method not found ·
105 already subscribed · 106 limit exceeded · 107 bad request · 108 not available · 109 token expired · 110 expired ·
111 too many requests (T) · 112 unrecoverable position · 410 not resumable
"""
RECONNECTING = """
3000 closed · 3001 shutdown · 3004 server error · 3005 expired · 3006 subscription expired · 3008 slow ·
3009 write error · 3010 insufficient state · 3011 force reconnect · 3012 no pong · 3013 too many requests ·
3014 state invalidated · 1013 try again later
"""
FINAL = """
3500 invalid token · 3501 bad request · 3502 stale · 3503 force disconnect · 3504 connection limit ·
3505 channel limit · 3506 inappropriate protocol · 3507 permission denied · 3508 not available · 3509 too many errors
"""


def table(text: str) -> dict[int, str]:
    return {int(code): words.strip() for code, words in re.findall(r"(\d+) ([^·]+)", text)}


def test_every_error_of_the_protocol_is_in_the_table_with_its_flag() -> None:
    expected = table(ERROR_CODES)
    assert ERRORS.keys() == expected.keys()
    for code, words in expected.items():
        error = ERRORS[code]
        assert error.code == code
        assert error.message.startswith(words.removesuffix("(T)").strip())
        assert error.temporary == words.endswith("(T)"), code


def test_every_disconnect_of_the_protocol_is_in_the_table() -> None:
    expected = table(RECONNECTING) | table(FINAL)
    assert DISCONNECTS.keys() == expected.keys()
    for code, words in expected.items():
        assert DISCONNECTS[code].code == code
        assert DISCONNECTS[code].reason.endswith(words)


@pytest.mark.parametrize("code", sorted(table(RECONNECTING)))
def test_clients_come_back(code: int) -> None:
    assert DISCONNECTS[code].reconnect


@pytest.mark.parametrize("code", sorted(table(FINAL)))
def test_clients_stay_away(code: int) -> None:
    assert not DISCONNECTS[code].reconnect


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (3499, True),
        (3500, False),
        (3999, False),
        (4000, True),
        (4499, True),
        (4500, False),
        (4999, False),
        (1013, True),
    ],
)
def test_the_range_of_a_code_says_whether_clients_come_back(code: int, reconnect: bool) -> None:
    assert DisconnectCode(code, "application").reconnect is reconnect


def test_every_unsubscribe_of_the_protocol_is_in_the_table() -> None:
    assert {code: each.reason for code, each in UNSUBSCRIBES.items()} == {
        2000: "server unsubscribe",
        2500: "insufficient state",
        2501: "expired",
    }


@pytest.mark.parametrize(("code", "resubscribe"), [(2000, False), (2499, False), (2500, True), (2501, True)])
def test_from_2500_on_clients_subscribe_again(code: int, resubscribe: bool) -> None:
    assert UnsubscribeCode(code, "").resubscribe is resubscribe


def test_no_constant_is_missing_from_its_table() -> None:
    constants = [each for each in vars(codes).values() if type(each).__name__.endswith("Code")]
    in_tables = [*ERRORS.values(), *DISCONNECTS.values(), *UNSUBSCRIBES.values()]
    assert sorted(map(repr, constants)) == sorted(map(repr, in_tables))


def test_every_reason_fits_into_a_close_frame() -> None:
    """RFC 6455 §5.5: a control frame holds 125 bytes, two of them the code."""
    assert all(len(each.reason.encode()) <= 123 for each in DISCONNECTS.values())
