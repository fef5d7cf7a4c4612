"""The reading half of a connection: bytes to whole messages, and the WebSocket's own frames (RFC 6455 §5).

Nearly all that clients send is a message in one whole frame, unfragmented and uncompressed: `whole_messages` takes
those as they are. The protocol object of `websockets` reads everything else, and is made when something needs it: an
ordinary client does when it leaves. Nothing is lost by that, because between two messages a protocol object in use is
as a new one, but for its compression; a connection with compression has one from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.edge.shared import Shared
from gateway.edge.wire import is_between_frames, make_protocol, take_apart, whole_messages
from gateway.metrics import names
from protocol.encodings import Encoding


class MessageReader(asyncio.Protocol):
    """Reads; what it has read is for the class that inherits from it, and so is what the protocol object answers."""

    __slots__ = ("_between", "_fragments", "_open", "_shared", "_ws", "encoding")

    def __init__(self, shared: Shared, websocket: ServerProtocol | None, encoding: Encoding) -> None:
        """`websocket` is in state OPEN; None = it would be a new one."""
        self._shared = shared
        self._ws = websocket
        self.encoding = encoding
        self._open = True
        self._fragments: bytearray | None = None
        self._between = websocket is None or is_between_frames(websocket)  # two messages, the next one uncompressed

    @property
    def _websocket(self) -> ServerProtocol:
        """The protocol object: 20 µs and 1.7 KiB that most connections do without."""
        if self._ws is None:
            self._ws = make_protocol(OPEN, self._shared.config.limits.message_bytes)
        return self._ws

    def data_received(self, data: bytes) -> None:
        self._shared.counters[names.BYTES_IN] += len(data)
        if self._between:
            messages, data = whole_messages(data, self.encoding.opcode, self._shared.config.limits.message_bytes)
            for message in messages:
                self._message_received(message)
        if data:
            websocket = self._websocket
            websocket.receive_data(data)
            self.events_received(websocket.events_received())

    def events_received(self, events: Sequence[object]) -> None:
        """What the protocol object has read."""
        for event in events:
            if isinstance(event, Frame):
                self._frame_received(event)
        self._write_protocol_data()
        self._between = self._open and self._fragments is None and is_between_frames(self._websocket)

    def eof_received(self) -> bool | None:
        self._websocket.receive_eof()
        self._write_protocol_data()
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the class that inherits tells of it
        self._fragments = None
        if self._ws is not None:
            take_apart(self._ws)

    def _frame_received(self, event: Frame) -> None:
        opcode = event.opcode
        if opcode is Opcode.PING:
            return  # the protocol object answers
        if opcode is Opcode.CLOSE:
            self._close_received()
            return
        if opcode is Opcode.PONG:
            self._pong_received()
            return
        if opcode is Opcode.CONT or not event.fin:
            # A message in pieces. Its size is bounded by the protocol object.
            if self._fragments is None:
                self._fragments = bytearray()
            if opcode is not Opcode.CONT and int(opcode) != self.encoding.opcode:
                self._wrong_type()
                return
            self._fragments += event.data
            if not event.fin:
                return
            payload = bytes(self._fragments)
            self._fragments = None
        elif int(opcode) != self.encoding.opcode:
            self._wrong_type()
            return
        else:
            payload = bytes(event.data)
        self._message_received(payload)

    # For the class that inherits.

    def _message_received(self, payload: bytes) -> None:
        raise NotImplementedError

    def _pong_received(self) -> None:
        raise NotImplementedError

    def _close_received(self) -> None:
        raise NotImplementedError

    def _wrong_type(self) -> None:
        """A message of the type, text or binary, that the encoding does not travel in."""
        raise NotImplementedError

    def _write_protocol_data(self) -> None:
        """Write what the protocol object wants to send."""
        raise NotImplementedError
