"""Frames that break RFC 6455 close the connection with the code that the RFC names, and nobody else notices."""

from __future__ import annotations

import pytest
from websockets.frames import Opcode

from tests.features.conftest import OpenWire
from tests.support.gateway import Gateway
from tests.support.waiting import wait_until
from tests.support.wire import frame

pytestmark = pytest.mark.usefixtures("bystander")

LIMIT = 65_536
CONNECTED = pytest.mark.parametrize("connected", [False, True], ids=["before-connect", "connected"])


@CONNECTED
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"x" * (LIMIT + 1)), 1009),
        (b"\x81\xff" + (2**40).to_bytes(8) + bytes(4), 1009),
        (frame(b"a" * 40_000, fin=False) + frame(b"a" * 40_000, Opcode.CONT), 1009),
        (frame(b"{}", mask=False), 1002),
        (frame(b"{}", rsv=4), 1002),
        (frame(b"{}", rsv=2), 1002),
        (frame(b"{}", rsv=1), 1002),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (b"\x8b\x80\x00\x00\x00\x00", 1002),
        (frame(b"}", Opcode.CONT), 1002),
        (frame(b"{", fin=False) + frame(b"{}"), 1002),
        (frame(b"", Opcode.PING, fin=False), 1002),
        (frame(b"x" * 126, Opcode.PING), 1002),
        (frame(b"\x03", Opcode.CLOSE), 1002),
        (frame(b"\x00\x01", Opcode.CLOSE), 1002),
        (frame(b'{"id":1,"ping":{},"x":"\xff\xfe"}'), 1007),
        (frame(b'{"id":1,"x":"\xed\xa0\x80"}'), 1007),
        (frame(b'{"id":1,"x":"', fin=False) + frame(b'\xc3\x28"}', Opcode.CONT), 1007),
        (frame(b"{}", Opcode.BINARY), 1003),
        (frame(b"{", Opcode.BINARY, fin=False) + frame(b"}", Opcode.CONT), 1003),
    ],
    ids=[
        "oversized",
        "announced-terabyte",
        "oversized-in-fragments",
        "unmasked",
        "rsv1",
        "rsv2",
        "rsv3",
        "opcode-3",
        "opcode-11",
        "continuation-of-nothing",
        "message-inside-a-message",
        "fragmented-ping",
        "long-ping",
        "close-of-one-byte",
        "close-code-1",
        "invalid-utf8",
        "surrogate",
        "invalid-utf8-in-fragments",
        "binary",
        "binary-in-fragments",
    ],
)
async def test_a_broken_frame_closes_with_its_code(
    sent: bytes, code: int, connected: bool, gateway: Gateway, open_wire: OpenWire
) -> None:
    wire = await open_wire()
    if connected:
        await wire.connect(gateway.token("eve"), "calm")
    wire.send(sent)
    assert (await wire.closed())[0] == code
    assert await wire.rest() == b""
    await wire.aclose()
    await wait_until(lambda: gateway.metric("gateway_connections") == 1, "only the bystander is left")


async def test_what_comes_behind_a_broken_frame_is_not_carried_out(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.connect(gateway.token("eve"))
    before = gateway.metric("gateway_commands_total")
    wire.send(frame(b"{}", rsv=4) + frame(b'{"id":9,"subscribe":{"channel":"calm"}}'))
    assert (await wire.closed())[0] == 1002
    assert gateway.metric("gateway_commands_total") == before


async def test_a_message_in_proper_fragments_with_a_ping_between_is_understood(
    gateway: Gateway, open_wire: OpenWire
) -> None:
    wire = await open_wire()
    text = b'{"id":1,"connect":{"token":"%b"}}' % gateway.token("ada").encode()
    wire.send(frame(text[:10], fin=False) + frame(b"now?", Opcode.PING) + frame(text[10:20], Opcode.CONT, fin=False))
    assert await wire.next_frame() == (Opcode.PONG, b"now?")
    wire.send(frame(text[20:], Opcode.CONT))
    (reply,) = await wire.replies()
    assert reply["connect"]["client"]


async def test_a_message_of_exactly_the_limit_is_understood(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.connect(gateway.token("ada"))
    command = b'{"id":7,"ping":{},"padding":"%b"}'
    wire.send(frame(command % (b"x" * (LIMIT - len(command) + 2))))
    assert await wire.replies() == [{"id": 7, "ping": {}}]


async def test_a_frame_in_single_bytes_is_understood(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.connect(gateway.token("ada"))
    for byte in frame(b'{"id":7,"ping":{}}'):
        wire.send(bytes((byte,)))
        await wire.writer.drain()
    assert await wire.replies() == [{"id": 7, "ping": {}}]


async def test_a_close_frame_is_answered_with_the_same_code(gateway: Gateway, open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.connect(gateway.token("eve"))
    wire.send(frame((4000).to_bytes(2) + b"bye", Opcode.CLOSE))
    assert await wire.closed() == (4000, "bye")
    assert await wire.rest() == b""
    await wire.aclose()
    (line,) = await wait_until(lambda: gateway.logged("connection closed", code=4000), "the close is logged")
    assert (line["user"], line["reason"], line["closed_by"]) == ("eve", "bye", "client")
