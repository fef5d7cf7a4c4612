"""Joins and leaves on the channel of the publications."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from protocol.errors import EnvelopeError
from protocol.redis_contract import PresenceChange, decode_payload, encode_presence_change
from protocol.replies import ClientInfo

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.booleans(), texts, texts, st.one_of(st.none(), texts))
def test_what_is_published_is_read(joined: bool, user: str, client: str, data: str | None) -> None:
    info = ClientInfo(user=user, client=client)
    if data is not None:
        info.conn_info = info.chan_info = Raw(msgspec.json.encode([data]))
    change = PresenceChange(joined=joined, info=info)
    assert decode_payload(encode_presence_change(change)) == change


def test_newlines_between_the_values_cannot_cut_a_message_to_a_client_in_two() -> None:
    change = decode_payload(b'@join {"user":"u","client":"c","conn_info":{\n"a":\r\n1}}')
    assert isinstance(change, PresenceChange)
    assert change.info.conn_info == Raw(b'{ "a":  1}')


@pytest.mark.parametrize("rest", [b"", b"1", b"{", b'{"user":1}', b'{"user":"\xff"}', b'{"user":"u"} {}'])
@pytest.mark.parametrize("kind", [b"@join ", b"@leave "])
def test_what_is_no_client_is_refused(kind: bytes, rest: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_payload(kind + rest)
