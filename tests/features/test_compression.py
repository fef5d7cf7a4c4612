"""permessage-deflate over real sockets, with the `websockets` client."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode

from tests.features.conftest import OpenClient, OpenWire
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.wire import frame, request

TEXT = "compressible " * 200
RSV1 = 4
MESSAGE_BYTES = 65_536


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    history = {"history_size": 500, "history_ttl_s": 60, "recover": True}
    config = {
        "namespaces": {"default": {"publish_by": "subscriber"}, "kept": history},
        "limits": {"message_bytes": MESSAGE_BYTES},
    }
    with serving(config) as gateway:
        yield gateway


def compressed(client: Client) -> bool:
    return bool(client._socket.protocol.extensions)


async def test_a_publication_is_compressed_once_for_all_who_agreed(gateway: Gateway, open_client: OpenClient) -> None:
    clients = [await open_client(f"user-{number}", compression="deflate") for number in range(5)]
    plain = await open_client("plain")
    assert [compressed(client) for client in (*clients, plain)] == [True] * 5 + [False]
    assert gateway.metric("gateway_compressed_connections") == 5
    for client in (*clients, plain):
        await client.subscribe("news")
    before = gateway.metric("gateway_compressed_messages_total")
    gateway.publish("news", TEXT)
    gateway.publish("news", "short")
    for client in (*clients, plain):
        assert await client.wait_data("news", 2) == [TEXT, "short"]
    assert gateway.metric("gateway_compressed_messages_total") == before + 1
    saved = gateway.metric("gateway_compressed_to_bytes_total") / gateway.metric("gateway_compressed_from_bytes_total")
    assert saved < 0.2
    for client in clients:
        await client.aclose()
    await plain.call(ping={})
    assert gateway.metric("gateway_compressed_connections") == 0


@pytest.mark.parametrize("bits", range(9, 16))
async def test_every_window(gateway: Gateway, open_client: OpenClient, bits: int) -> None:
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=bits, client_max_window_bits=bits)
    client = await open_client("ada", extensions=[factory])
    assert compressed(client)
    await client.subscribe("news")
    document = {"text": TEXT, "more": os.urandom(2000).hex()}
    await client.call(publish={"channel": "news", "data": document})
    gateway.publish("news", document)
    assert await client.wait_data("news", 2) == [document, document]


async def test_long_replies_are_compressed_too(gateway: Gateway, open_client: OpenClient) -> None:
    position = None
    for number in range(100):
        position = gateway.publish_logged("kept:page", {"n": number, "text": TEXT}, size=500)
    assert position is not None
    client = await open_client("ada", compression="deflate")
    before = gateway.metric("gateway_compressed_messages_total")
    result = await client.subscribe("kept:page", recover=True, epoch=position.epoch, offset=0)
    assert [each["data"]["n"] for each in result["publications"]] == list(range(100))
    assert gateway.metric("gateway_compressed_messages_total") > before


def deflated(payload: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def upgraded(open_wire: OpenWire) -> Any:
    return await open_wire(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")


async def test_a_compressed_message_may_come_in_pieces(open_wire: OpenWire, gateway: Gateway) -> None:
    wire = await upgraded(open_wire)
    data = deflated(b'{"id":1,"connect":{"token":"%b"}}' % gateway.token("ada").encode())
    wire.send(frame(data[:10], fin=False, rsv=RSV1) + frame(data[10:20], Opcode.CONT, fin=False))
    wire.send(frame(data[20:], Opcode.CONT))
    (reply,) = await wire.replies()
    assert reply["connect"]["client"]


async def test_a_bomb_does_not_go_off(open_wire: OpenWire, bystander: Client) -> None:
    wire = await upgraded(open_wire)
    bomb = deflated(b" " * 50_000_000)
    assert len(bomb) < MESSAGE_BYTES
    wire.send(frame(bomb, rsv=RSV1))
    assert (await wire.closed())[0] == 1009


async def test_a_message_of_just_the_allowed_size_passes_and_one_byte_more_does_not(
    open_wire: OpenWire, gateway: Gateway
) -> None:
    command = b'{"id":1,"connect":{"token":"%b"}}' % gateway.token("ada").encode()
    wire = await upgraded(open_wire)
    wire.send(frame(deflated(command.ljust(MESSAGE_BYTES)), rsv=RSV1))
    assert (await wire.replies())[0]["connect"]["client"]
    wire = await upgraded(open_wire)
    wire.send(frame(deflated(command.ljust(MESSAGE_BYTES + 1)), rsv=RSV1))
    assert (await wire.closed())[0] == 1009


@pytest.mark.parametrize(
    "data",
    [
        frame(b"\xff\xff\xff\xff", rsv=RSV1),
        frame(deflated(b"{}"), fin=False, rsv=RSV1) + frame(b"x", Opcode.CONT, rsv=RSV1),
        frame(b"", Opcode.PING, rsv=RSV1),
    ],
    ids=["garbage", "RSV1 in a later piece", "RSV1 in a ping"],
)
async def test_what_is_no_compressed_message_closes_the_connection(
    open_wire: OpenWire, bystander: Client, data: bytes
) -> None:
    wire = await upgraded(open_wire)
    wire.send(data)
    assert (await wire.closed())[0] == 1002


async def test_who_has_not_agreed_may_not_compress(open_wire: OpenWire) -> None:
    wire = await open_wire()
    wire.send(frame(deflated(b"{}"), rsv=RSV1))
    assert (await wire.closed())[0] == 1002


async def test_a_header_that_is_none_is_refused(open_wire: OpenWire) -> None:
    wire = await open_wire(upgraded=False)
    wire.send(request(Sec_WebSocket_Extensions="permessage-deflate; ="))
    assert (await wire.status())[0] == 400
