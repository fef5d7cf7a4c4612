"""The grammar of channel names."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.channel import MAX_LENGTH, ChannelName, parse_channel, personal_channel
from protocol.errors import ChannelError

PRINTABLE = "".join(sorted(set(map(chr, range(0x21, 0x7F))) - set("{}")))


@pytest.mark.parametrize(
    ("channel", "parts"),
    [
        ("news", {}),
        ("a", {}),
        ("~!%&*()[]|;'<>?/=+`^\"\\", {}),
        ("team:x", {"namespace": "team"}),
        ("team:x:y", {"namespace": "team"}),
        ("te_a.m-1:x", {"namespace": "te_a.m-1"}),
        ("$x", {"private": True}),
        ("team:$x", {"namespace": "team", "private": True}),
        ("$team:x", {"namespace": "team", "private": True}),
        ("$team:$x", {"namespace": "team", "private": True}),
        ("x$", {}),
        ("team:x$", {"namespace": "team"}),
        ("dialog#42", {"users": {"42"}}),
        ("dialog#42,43", {"users": {"42", "43"}}),
        ("dialog#42,42", {"users": {"42"}}),
        ("team:dialog#42,43", {"namespace": "team", "users": {"42", "43"}}),
        ("team:#42", {"namespace": "team", "users": {"42"}}),
        ("$dialog#42,43", {"private": True, "users": {"42", "43"}}),
        ("$#42", {"private": True, "users": {"42"}}),
        ("dialog#a:b", {"users": {"a:b"}}),
        ("dialog#a#b", {"users": {"a#b"}}),
        ("#42", {"users": {"42"}, "personal": True}),
        ("#a:b", {"users": {"a:b"}, "personal": True}),
        ("#$x", {"users": {"$x"}, "personal": True}),
        ("@all", {"reserved": True}),
        ("@", {"reserved": True}),
        ("@x#42", {"users": {"42"}, "reserved": True}),
        ("team:@all", {"namespace": "team"}),
        ("x" * 255, {}),
    ],
)
def test_a_name_is_taken_apart(channel: str, parts: dict[str, Any]) -> None:
    assert parse_channel(channel) == ChannelName(full=channel, **parts)


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        ("", "empty"),
        ("x" * 256, "256 characters, 255 are allowed"),
        ("ns:", "nothing behind its namespace"),
        ("ns:$", "nothing behind its namespace"),
        (":x", '"" is not a namespace'),
        ("$:x", '"" is not a namespace'),
        (":", "is not a namespace"),
        ("a!b:x", '"a!b" is not a namespace'),
        ("@all:x", "is not a namespace"),
        ("a#", "followed by user ids"),
        ("#", "followed by user ids"),
        ("a#,42", "followed by user ids"),
        ("a#42,", "followed by user ids"),
        ("a#42,,43", "followed by user ids"),
        ("{news}", "'{'"),
        ("news}", "'}'"),
        ("a b", "' '"),
        ("a\nb", r"'\\n'"),
        ("a\0", r"'\\x00'"),
        ("a\x7f", r"'\\x7f'"),
        ("caf\u00e9", r"'\\xe9'"),
        ("\u0437", r"'\\u0437'"),
        ("\ud800", r"'\\ud800'"),
    ],
)
def test_a_name_is_refused_with_its_reason_in_plain_ascii(channel: str, why: str) -> None:
    with pytest.raises(ChannelError, match=why) as caught:
        parse_channel(channel)
    assert str(caught.value).isascii()


@given(st.text(max_size=300) | st.text(string.ascii_lowercase + "$#@:,{} é", max_size=12))
def test_any_text_is_a_channel_or_raises_channel_error(channel: str) -> None:
    try:
        name = parse_channel(channel)
    except ChannelError:
        return
    assert name.full == channel
    assert 0 < len(channel) <= MAX_LENGTH
    assert set(channel) <= set(PRINTABLE)


@given(st.text(PRINTABLE, max_size=20), st.sampled_from("{} \x00\x7fé\u2028"), st.text(PRINTABLE, max_size=20))
def test_one_refused_character_anywhere_refuses_the_name(before: str, refused: str, after: str) -> None:
    with pytest.raises(ChannelError):
        parse_channel(before + refused + after)


@given(st.integers(1, 1024))
def test_the_limit_can_be_configured(limit: int) -> None:
    assert parse_channel("x" * limit, limit).full == "x" * limit
    with pytest.raises(ChannelError, match=f"{limit + 1} characters, {limit} are allowed"):
        parse_channel("x" * (limit + 1), limit)


@given(st.text(max_size=20) | st.text(PRINTABLE, min_size=250, max_size=260))
def test_a_personal_channel_is_what_the_grammar_makes_of_its_name_or_does_not_exist(user: str) -> None:
    channel = personal_channel(user)
    if channel is not None:
        assert channel == parse_channel(f"#{user}")
        assert channel.personal
        assert channel.users == {user}


@pytest.mark.parametrize("user", ["42", "a:b", "$x", "@all", "x" * 254])
def test_an_ordinary_user_has_a_personal_channel(user: str) -> None:
    assert personal_channel(user) == ChannelName(full=f"#{user}", users=frozenset((user,)), personal=True)


@pytest.mark.parametrize("user", ["", "a,b", "a b", "{x}", "caf\u00e9", "x" * 255])
def test_a_user_whose_id_cannot_stand_in_a_channel_has_none(user: str) -> None:
    assert personal_channel(user) is None
