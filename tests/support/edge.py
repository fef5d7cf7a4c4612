"""A connection without a socket: bytes in, bytes out. The client's side is the `websockets` library's own parser."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from gateway.edge import (
    AddressCounts,
    Admission,
    Compression,
    Connection,
    Deadlines,
    HandshakePace,
    KeepaliveWheel,
    Opening,
    Shared,
)
from gateway.log import get_logger
from gateway.metrics.table import ADDRESS_CELLS
from tests.support.session import SessionWorld
from tests.support.wire import frame, request

HEAD_END = b"\r\n\r\n"


def close_frame(code: int, reason: str = "") -> bytes:
    """The payload of a close frame."""
    return code.to_bytes(2) + reason.encode()


class FakeTransport(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self, host: str = "192.0.2.1") -> None:
        super().__init__({"peername": (host, 1234)})
        self.writes: list[bytes] = []
        self.reading = True
        self.closing = False
        self.aborted = False
        self.half_closed = False
        self.high_water = 0
        self.unsent = 0
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.half_closed, "nothing is written after the end"
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_water = high or 0

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Peer:
    """One client without a socket."""

    def __init__(self, world: EdgeWorld, host: str = "192.0.2.1") -> None:
        self.world = world
        self.transport = FakeTransport(host)
        opening = Opening(world.shared)
        self.transport.set_protocol(opening)
        opening.connection_made(self.transport)
        self._head = b""
        self._parser = Protocol(Side.CLIENT, max_size=None)
        self._read = 0

    @property
    def protocol(self) -> Opening | Connection:
        """Who has the socket now."""
        protocol = self.transport.get_protocol()
        assert isinstance(protocol, Opening | Connection)
        return protocol

    @property
    def connection(self) -> Connection:
        """Past the handshake."""
        assert isinstance(self.protocol, Connection)
        return self.protocol

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        self.protocol.data_received(data)

    def send(self, payload: bytes | str, opcode: int = Opcode.TEXT, **options: Any) -> None:
        """A masked frame arrives."""
        self.feed(frame(payload.encode() if isinstance(payload, str) else payload, opcode, **options))

    @property
    def answer(self) -> bytes:
        """The response to the handshake, whole."""
        return b"".join(self.transport.writes)

    def news(self) -> list[Frame]:
        """The frames that were written since the last look, past the handshake's response."""
        out = b"".join(self.transport.writes)
        start = out.index(HEAD_END) + len(HEAD_END)
        self._parser.receive_data(out[max(start, self._read) :])
        self._read = len(out)
        assert self._parser.parser_exc is None
        return [event for event in self._parser.events_received() if isinstance(event, Frame)]

    def replies(self) -> list[Any]:
        """The documents in the text frames since the last look."""
        return [
            json.loads(line) for each in self.news() if each.opcode is Opcode.TEXT for line in each.data.split(b"\n")
        ]

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason of the close frame that was written."""
        self.news()
        received = self._parser.close_rcvd
        return (received.code, received.reason) if received is not None else None

    async def connect(self, user: str = "42") -> Any:
        """The `connect` command; its result."""
        self.send(json.dumps({"id": 1, "connect": {"token": self.world.session.token(user)}}))
        await self.world.session.settle()
        (answer,) = self.replies()
        return answer["connect"]

    def vanish(self, error: Exception | None = None) -> None:
        """The socket is gone."""
        self.protocol.connection_lost(error)
        self.transport.protocol = None  # as the loops' transports do


class EdgeWorld:
    """What the connections of a worker share."""

    def __init__(self, *, ready: bool = True, **sections: Any) -> None:
        limits = {"handshakes_per_s": 0} | sections.pop("limits", {})
        self.session = SessionWorld(limits=limits, **sections)
        self.config = self.session.config
        self.clock = self.session.clock
        self.counters = self.session.counters
        self.ready = ready
        self.changes = 0
        configured, keepalive = self.config.limits, self.config.keepalive
        self.pace = HandshakePace(configured.handshakes_per_s, configured.handshake_places, self.counters, self.clock)
        row = memoryview(bytearray(4 * ADDRESS_CELLS)).cast("I")
        self.addresses = AddressCounts([row], 0, lambda _: True, b"seed") if configured.connections_per_ip else None
        self.shared = Shared(
            config=self.config,
            session=self.session.context,
            counters=self.counters,
            log=get_logger(),
            wheel=KeepaliveWheel(
                keepalive.ping_interval_s,
                keepalive.pong_timeout_s,
                lambda: 0.0,
                max_age_s=self.config.server.max_connection_age_s,
            ),
            admission=Admission(self.config, self.pace, self.addresses, self.counters, lambda: 0.5),
            compression=Compression(self.counters, self.config.delivery),
            handshakes=Deadlines(self.clock, configured.connect_timeout_s),
            connects=Deadlines(self.clock, configured.connect_timeout_s),
            closings=Deadlines(self.clock, configured.close_timeout_s),
            ready=lambda: (self.ready, "ready" if self.ready else "degraded"),
            on_change=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def peer(self, host: str = "192.0.2.1") -> Peer:
        """Before its handshake."""
        return Peer(self, host)

    def upgraded(self, path: str = "/connection/websocket", **headers: str) -> Peer:
        """Past its handshake."""
        peer = self.peer()
        peer.feed(request(path, **headers))
        assert peer.answer.startswith(b"HTTP/1.1 101 "), peer.answer
        return peer

    async def connected(self, user: str = "42", path: str = "/connection/websocket", **headers: str) -> Peer:
        """Past `connect`."""
        peer = self.upgraded(path, **headers)
        await peer.connect(user)
        return peer
