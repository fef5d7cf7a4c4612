"""Messages on the control channel: what is written is read; what names nobody is refused."""

from __future__ import annotations

import pytest
from msgspec import Raw

from protocol.control_messages import (
    ControlMessage,
    DisconnectClients,
    Override,
    RefreshClients,
    Revoked,
    Setting,
    SubscribeClients,
    Survey,
    UnsubscribeClients,
    decode_control,
    encode_control,
)
from protocol.errors import EnvelopeError
from protocol.position import Position


@pytest.mark.parametrize(
    "message",
    [
        DisconnectClients(user="42", whitelist=("a", "b")),
        DisconnectClients(client="c", code=4501, reason="bye"),
        UnsubscribeClients(user="42", channel="news"),
        SubscribeClients(
            session="c",
            channel="news",
            info=Raw(b'{"a":1}'),
            data=Raw(b"[1]"),
            recover_since=Position(offset=7, epoch="e"),
            expire_at=12.5,
            override=Override(presence=Setting(True), force_recovery=Setting(False)),
        ),
        RefreshClients(user="42", client="c", expire_at=1.0),
        RefreshClients(user="42", expired=True, info=Raw(b'"x"')),
        Revoked(token_id="t", expire_at=5.0),
        Revoked(user="42", issued_before=4.0, expire_at=5.0),
        Survey(reply_to="gw:survey:1", pattern="news:*"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_written_is_read(message: ControlMessage) -> None:
    assert decode_control(encode_control(message)) == message


def test_a_disconnect_without_a_code_is_final() -> None:
    assert decode_control(b'{"op":"disconnect","user":"42"}') == DisconnectClients(
        user="42", code=3503, reason="force disconnect"
    )


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", "empty"),
        (b"{", "JSON|truncated"),
        (b"[]", "object"),
        (b'{"user":"42"}', "op"),
        (b'{"op":"restart","user":"42"}', "restart"),
        (b'{"op":"disconnect"}', "neither user nor client"),
        (b'{"op":"disconnect","user":""}', "neither user nor client"),
        (b'{"op":"disconnect","user":7}', "user"),
        (b'{"op":"disconnect","user":"42","code":1000}', "code"),
        (b'{"op":"disconnect","user":"42","reason":"' + b"x" * 124 + b'"}', "reason"),
        (b'{"op":"unsubscribe","user":"42"}', "channel"),
        (b'{"op":"subscribe","channel":"news"}', "neither user nor client"),
        (b'{"op":"revoked","expire_at":5}', "no tokens"),
        (b'{"op":"revoked","user":"42"}', "expire_at"),
        (b'{"op":"disconnect","user":"\xff"}', "UTF-8"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_and_named(payload: bytes, problem: str) -> None:
    with pytest.raises(EnvelopeError, match=problem):
        decode_control(payload)
