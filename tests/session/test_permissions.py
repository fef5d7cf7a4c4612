"""Who may do what, as tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config import Namespace
from gateway.session.outcomes import Refusal
from gateway.session.permissions import check_history, check_presence, check_publish, check_subscribe, find_channel
from protocol.channel import parse_channel

USER, ANONYMOUS = "42", ""


def may(check: Callable[..., None], channel: str, rules: Namespace, user: str, **circumstances: bool) -> bool:
    try:
        check(parse_channel(channel), rules, user, **circumstances)
    except Refusal as refusal:
        if refusal.error.code != 103:
            raise
        return False
    return True


# For each rule: who may subscribe: (anonymous, user, anonymous with a token, user with a token).
SUBSCRIBE = {
    "news": {
        "nobody": (False, False, False, False),
        "token": (False, False, True, True),
        "authenticated": (False, True, True, True),
        "anyone": (True, True, True, True),
    },
    "$private": {
        "nobody": (False, False, False, False),
        "token": (False, False, True, True),
        "authenticated": (False, False, True, True),
        "anyone": (False, False, True, True),
    },
    "dialog#42,43": {
        "nobody": (False, False, False, False),
        "token": (False, False, False, True),
        "authenticated": (False, True, False, True),
        "anyone": (False, True, False, True),
    },
    "dialog#43,44": dict.fromkeys(("nobody", "token", "authenticated", "anyone"), (False,) * 4),
    "#42": {
        "nobody": (False, False, False, False),
        "token": (False, False, False, True),
        "authenticated": (False, True, False, True),
        "anyone": (False, True, False, True),
    },
    "#43": dict.fromkeys(("nobody", "token", "authenticated", "anyone"), (False,) * 4),
    "$dialog#42": {
        "nobody": (False, False, False, False),
        "token": (False, False, False, True),
        "authenticated": (False, False, False, True),
        "anyone": (False, False, False, True),
    },
    "@all": dict.fromkeys(("nobody", "token", "authenticated", "anyone"), (False,) * 4),
    "@x#42": dict.fromkeys(("nobody", "token", "authenticated", "anyone"), (False,) * 4),
}


@pytest.mark.parametrize(
    ("channel", "by", "expected"),
    [(channel, by, expected) for channel, rules in SUBSCRIBE.items() for by, expected in rules.items()],
)
def test_who_may_subscribe(channel: str, by: str, expected: tuple[bool, ...]) -> None:
    rules = Namespace.model_validate({"subscribe_by": by})
    cases = [(ANONYMOUS, False), (USER, False), (ANONYMOUS, True), (USER, True)]
    assert tuple(may(check_subscribe, channel, rules, user, with_token=token) for user, token in cases) == expected


# For each rule: (anonymous, user, anonymous subscriber, user who is a subscriber).
ACT = {
    "news": {
        "nobody": (False, False, False, False),
        "subscriber": (False, False, True, True),
        "authenticated": (False, True, False, True),
        "anyone": (True, True, True, True),
    },
    "$private": {
        "nobody": (False, False, False, False),
        "subscriber": (False, False, True, True),
        "authenticated": (False, False, False, True),
        "anyone": (False, False, True, True),
    },
    "dialog#42,43": {
        "nobody": (False, False, False, False),
        "subscriber": (False, False, False, True),
        "authenticated": (False, True, False, True),
        "anyone": (False, True, False, True),
    },
    "dialog#43": dict.fromkeys(("nobody", "subscriber", "authenticated", "anyone"), (False,) * 4),
    "#43": dict.fromkeys(("nobody", "subscriber", "authenticated", "anyone"), (False,) * 4),
    "@all": dict.fromkeys(("nobody", "subscriber", "authenticated", "anyone"), (False,) * 4),
}
CHECKS = [(check_publish, "publish_by"), (check_history, "history_by"), (check_presence, "presence_by")]


@pytest.mark.parametrize(("check", "key"), CHECKS, ids=[key for _, key in CHECKS])
@pytest.mark.parametrize(
    ("channel", "by", "expected"),
    [(channel, by, expected) for channel, rules in ACT.items() for by, expected in rules.items()],
)
def test_who_may_publish_read_history_or_see_who_is_there(
    check: Callable[..., None], key: str, channel: str, by: str, expected: tuple[bool, ...]
) -> None:
    others = {"publish_by": "nobody", "history_by": "nobody", "presence_by": "nobody"}
    rules = Namespace.model_validate(others | {key: by})
    cases = [(ANONYMOUS, False), (USER, False), (ANONYMOUS, True), (USER, True)]
    assert tuple(may(check, channel, rules, user, subscribed=subscribed) for user, subscribed in cases) == expected


@pytest.mark.parametrize(
    ("channel", "code"), [("ns:", 107), ("", 107), ("a b", 107), ("x" * 31, 107), ("other:x", 102)]
)
def test_a_channel_that_does_not_exist_has_its_code(channel: str, code: int) -> None:
    with pytest.raises(Refusal) as caught:
        find_channel(channel, {"default": Namespace(), "ns": Namespace()}, max_length=30)
    assert caught.value.error.code == code


def test_a_channel_has_the_rules_of_its_namespace() -> None:
    namespaces = {"default": Namespace(), "ns": Namespace(publish_by="anyone")}
    assert find_channel("ns:$x", namespaces, 255)[1] is namespaces["ns"]
    assert find_channel("$ns:x", namespaces, 255)[1] is namespaces["ns"]
    assert find_channel("x", namespaces, 255)[1] is namespaces["default"]
    assert find_channel("#a:b", namespaces, 255)[1] is namespaces["default"]
