"""JSON, Protobuf and msgpack clients of one channel, over real sockets. The binary ones are read without our codecs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from protocol import client_pb2
from tests.features.conftest import OpenClient
from tests.support.gateway import Gateway, serving
from tests.support.waiting import DEADLINE_S

OpenSocket = Callable[[str], Any]


@pytest.fixture(scope="module")
def gateway() -> Any:
    config = {
        "keepalive": {"ping_interval_s": 1.0, "pong_timeout_s": 0.9},
        "namespaces": {"default": {"publish_by": "subscriber"}},
    }
    with serving(config) as gateway:
        yield gateway


@pytest.fixture
async def open_socket(gateway: Gateway) -> AsyncIterator[OpenSocket]:
    opened: list[ClientConnection] = []

    async def open_socket(subprotocol: str) -> ClientConnection:
        socket = await connect(
            gateway.url, subprotocols=[subprotocol], proxy=None, ping_interval=None, open_timeout=DEADLINE_S
        )
        assert socket.subprotocol == subprotocol
        opened.append(socket)
        return socket

    yield open_socket
    for socket in opened:
        await socket.close()


def delimited(*messages: Any) -> bytes:
    """Short Protobuf messages, each behind its length."""
    parts = [message.SerializeToString() for message in messages]
    lengths = [bytes((len(part) & 0x7F | 0x80, len(part) >> 7)) for part in parts]
    return b"".join(length + part for length, part in zip(lengths, parts, strict=True))


def replies(frame: bytes) -> list[client_pb2.Reply]:
    found = []
    while frame:
        size, header = frame[0], 1
        if size > 0x7F:
            size, header = size & 0x7F | frame[1] << 7, 2
        found.append(client_pb2.Reply.FromString(frame[header : header + size]))
        frame = frame[header + size :]
    return found


class Protobuf:
    """A client by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.unread: list[client_pb2.Reply] = []

    async def send(self, *commands: client_pb2.Command) -> None:
        await self.socket.send(delimited(*commands))

    async def next(self) -> client_pb2.Reply:
        while not self.unread:
            frame = await self.socket.recv()
            assert isinstance(frame, bytes)
            if frame == b"\x00":
                await self.socket.send(b"\x00")
            else:
                self.unread += replies(frame)
        return self.unread.pop(0)


class Msgpack:
    """A client by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.unread: list[dict[str, Any]] = []

    async def send(self, *commands: dict[str, Any]) -> None:
        await self.socket.send(b"".join(map(msgpack.packb, commands)))

    async def next(self) -> dict[str, Any]:
        while not self.unread:
            frame = await self.socket.recv()
            assert isinstance(frame, bytes)
            if frame == b"\x80":
                await self.socket.send(b"\x80")
                continue
            unpacker = msgpack.Unpacker()
            unpacker.feed(frame)
            self.unread += list(unpacker)
        return self.unread.pop(0)


async def test_three_encodings_in_one_channel(
    gateway: Gateway, open_client: OpenClient, open_socket: OpenSocket
) -> None:
    text = await open_client("json")
    await text.subscribe("mixed")
    protobuf = Protobuf(await open_socket("centrifuge-protobuf"))
    await protobuf.send(
        client_pb2.Command(id=1, connect=client_pb2.ConnectRequest(token=gateway.token("protobuf"))),
        client_pb2.Command(id=2, subscribe=client_pb2.SubscribeRequest(channel="mixed")),
    )
    assert (await protobuf.next()).connect.client
    assert (await protobuf.next()).WhichOneof("answer") == "subscribe"
    packed = Msgpack(await open_socket("centrifuge-msgpack"))
    await packed.send(
        {"id": 1, "connect": {"token": gateway.token("msgpack")}}, {"id": 2, "subscribe": {"channel": "mixed"}}
    )
    assert (await packed.next())["connect"]["client"]
    assert await packed.next() == {"id": 2, "subscribe": {}}

    gateway.publish("mixed", {"n": 1.5, "text": "ü", "list": [None, True]})
    (heard,) = await text.wait_data("mixed")
    assert (await packed.next())["push"]["pub"]["data"] == heard == {"n": 1.5, "text": "ü", "list": [None, True]}
    push = (await protobuf.next()).push
    assert (push.channel, push.pub.data) == ("mixed", b'{"n": 1.5, "text": "\\u00fc", "list": [null, true]}')

    await packed.send({"id": 3, "publish": {"channel": "mixed", "data": {"file": b"\x00\xff"}}})
    assert (await text.wait_data("mixed", 2))[1] == {"file": {"$binary": "AP8="}}
    push = (await protobuf.next()).push
    assert (push.pub.data, push.pub.info.user) == (b'{"file":{"$binary":"AP8="}}', "msgpack")
    answers = [await packed.next(), await packed.next()]
    assert {"id": 3, "publish": {}} in answers
    (push_of_its_own,) = [each for each in answers if "push" in each]
    assert push_of_its_own["push"]["pub"]["data"] == {"file": b"\x00\xff"}

    await text.call(publish={"channel": "mixed", "data": {"$binary": "AP8="}})
    assert (await protobuf.next()).push.pub.data == b"\x00\xff"
    assert (await packed.next())["push"]["pub"]["data"] == b"\x00\xff"


async def test_errors_and_pings_in_protobuf(gateway: Gateway, open_socket: OpenSocket) -> None:
    client = Protobuf(await open_socket("centrifuge-protobuf"))
    await client.send(client_pb2.Command(id=1, connect=client_pb2.ConnectRequest(token=gateway.token("ada"))))
    assert (await client.next()).connect.ping == 1
    await client.send(client_pb2.Command(id=2, rpc=client_pb2.RpcRequest(method="nothing", data=b"\x00")))
    answer = await client.next()
    assert (answer.id, answer.error.code) == (2, 108)
    await three_pings(client.socket, b"\x00")


async def test_errors_and_pings_in_msgpack(gateway: Gateway, open_socket: OpenSocket) -> None:
    client = Msgpack(await open_socket("centrifuge-msgpack"))
    await client.send({"id": 1, "connect": {"token": gateway.token("ada")}})
    assert (await client.next())["connect"]["ping"] == 1
    await client.send({"id": 2, "rpc": {"method": "nothing"}})
    assert (await client.next())["error"]["code"] == 108
    await three_pings(client.socket, b"\x80")


async def three_pings(socket: ClientConnection, ping: bytes) -> None:
    """Each is answered in time, or there would not be a next one."""
    for _ in range(3):
        assert await socket.recv() == ping
        await socket.send(ping)


@pytest.mark.parametrize(
    ("subprotocol", "frame", "code"),
    [
        ("centrifuge-protobuf", b"\xff\xff\xff", 3501),
        ("centrifuge-protobuf", b"", 3501),
        ("centrifuge-protobuf", "text", 1003),
        ("centrifuge-msgpack", b"\xc1", 3501),
        ("centrifuge-msgpack", b"\x93\x01", 3501),
        ("centrifuge-msgpack", "{}", 1003),
    ],
)
async def test_what_cannot_be_read_closes_the_connection(
    gateway: Gateway, open_socket: OpenSocket, subprotocol: str, frame: bytes | str, code: int
) -> None:
    socket = await open_socket(subprotocol)
    await socket.send(frame)
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    assert socket.close_code == code
