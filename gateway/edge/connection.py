"""One WebSocket connection past its handshake: bytes to commands, messages to bytes.

No task, no queue and no timer belongs to a connection. What a session sends is corked: everything due in one pass
leaves in one write. Publications skip the protocol object: their frames are made once and shared by all receivers. That
is correct because server frames are unmasked and stateless; `deliver` writes only while the connection is open, on
the loop's thread, and the gateway never sends fragmented messages. `deliver` is the transport's own `write` while all
is well, and is exchanged when it is not: nothing of ours runs for a delivery.

States: open → closing → closed. The session is closed first, then the socket. `opening` is what comes before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from websockets.server import ServerProtocol

from gateway.edge.closed import log_closed
from gateway.edge.handshake import Upgrade
from gateway.edge.messages import MessageReader
from gateway.edge.shared import Shared
from gateway.edge.wire import send_close, takes_in, write_pending
from gateway.metrics import names
from gateway.session import Session
from protocol.codes import BAD_COMMAND, FORCE_RECONNECT, NO_PONG, SLOW, STALE, TRY_AGAIN_LATER, DisconnectCode
from protocol.encodings import ENCODINGS, TEXT
from protocol.errors import DecodeError
from protocol.frames import PLAIN, Framing

NATIVE_PING: Final = b"\x89\x00"
"""An unmasked ping frame without payload."""
_PINGS: Final = {encoding.name: PLAIN[encoding.name].frame(encoding.ping) for encoding in ENCODINGS}


def _refuse(_frames: bytes) -> bool:
    """`deliver` of a connection whose send budget is used up."""
    return True


def _ignore(_frames: bytes) -> None:
    """`deliver` of a connection that is closing: it is neither slow nor there."""


class Connection(MessageReader):
    __slots__ = (
        "_corked",
        "_owes_pong",
        "_paused",
        "_session",
        "_slow",
        "_transport",
        "_unread",
        "deliver",
        "framing",
        "headers",
        "native_ping",
        "opened_at",
        "peer",
        "slot",
    )

    def __init__(
        self,
        shared: Shared,
        transport: asyncio.Transport,
        websocket: ServerProtocol | None,
        upgrade: Upgrade,
        framing: Framing,
        peer: str,
    ) -> None:
        """Take over a socket whose handshake is done; the response is written. `websocket` is in state OPEN, None = it
        would be as a new one is."""
        super().__init__(shared, websocket, framing.encoding)
        self._transport = transport
        self._session: Session | None = None
        self._corked: list[bytes] | None = None
        self._slow = self._paused = self._owes_pong = False
        self.deliver: Callable[[bytes], bool | None] = transport.write
        self._unread = 0  # Pings in a row that were late.
        self.slot, self.opened_at = -1, 0.0
        self.framing = framing
        self.native_ping, self.headers = upgrade.native_ping, upgrade.headers
        self.peer = peer

    def start(self) -> None:
        """Admit the client, or turn it away when the worker is full."""
        shared = self._shared
        if shared.full:
            shared.counters[names.REFUSED_MEMORY if shared.refuses else names.REFUSED_FULL] += 1
            self._start_closing(TRY_AGAIN_LATER)
            return
        self.opened_at = shared.session.clock.monotonic()
        self._transport.set_write_buffer_limits(high=shared.send_budget_bytes)
        shared.connections[self] = self._transport
        shared.counters[names.CONNECTIONS] += 1
        shared.counters[names.OPENED] += 1
        shared.counters[names.COMPRESSED_CONNECTIONS] += self.framing.window_bits > 0
        shared.connects.start(self)
        self._session = Session(shared.session, self)
        shared.changed()

    # asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._slow:
            # It asks and does not read the answers (pongs among them): no more questions until it has.
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The send budget is used up."""
        self._slow = True
        if self._open:
            self.deliver = _refuse

    def resume_writing(self) -> None:
        self._slow = False
        if self._open:
            self.deliver = self._transport.write
            if self._session is not None:
                self._shared.session.hub.drained(self)
        if not self._paused:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        shared = self._shared
        self._shut()
        shared.connects.met(self)
        shared.closings.met(self)
        shared.wheel.remove(self)
        if shared.connections.pop(self, None) is not None:
            shared.counters[names.CONNECTIONS] -= 1
            shared.counters[names.CLOSED] += 1
            shared.counters[names.COMPRESSED_CONNECTIONS] -= self.framing.window_bits > 0
        if self._session is not None:
            self._session.closed("connection lost")
            log_closed(shared, self._session, websocket=self._ws, peer=self.peer, opened_at=self.opened_at, error=exc)
            self._session = None
        self._corked = None
        super().connection_lost(exc)
        shared.left(self.peer)

    # What is read (gateway.edge.messages).

    def _close_received(self) -> None:
        if self._session is not None:
            self._shut()
            self._session.closed("closed by the client")

    def _pong_received(self) -> None:
        if self.native_ping:
            self._owes_pong = False
        self._unread = 0

    def _wrong_type(self) -> None:
        kind = "text" if self.encoding.opcode == TEXT else "binary"
        self._fail(1003, f"{self.encoding.name} travels in {kind} frames")

    def _message_received(self, payload: bytes) -> None:
        session = self._session
        if session is None or not self._open:
            return
        if payload == self.encoding.ping and self._owes_pong and not self.native_ping:
            self._owes_pong = False
            self._unread = 0
            return
        try:
            commands = self.encoding.decode_commands(payload)
        except DecodeError as error:
            if self.encoding.opcode == TEXT and isinstance(error.__cause__, UnicodeDecodeError):
                self._fail(1007, "invalid UTF-8 in a text frame")
            else:
                session.disconnect(BAD_COMMAND, str(error))
            return
        if self._owes_pong and not self.native_ping:
            # A pong may share its frame with commands, or be written with more whitespace than ours.
            pong = next((command for command in commands if command.is_pong), None)
            if pong is not None:
                self._owes_pong = False
                commands.remove(pong)
                if not commands:
                    return
        session.receive(commands)

    def _fail(self, code: int, reason: str) -> None:
        """Close for a violation of the WebSocket protocol itself (RFC 6455 §7.1.7)."""
        if self._session is not None:
            self._session.closed(reason)
        if self._open:
            self._shut()
            self._websocket.fail(code, reason)
            self._write_protocol_data()

    # What the session asks for (gateway.session.Outlet).

    def send(self, message: bytes) -> None:
        if self._corked is None:
            self._corked = [message]
        else:
            self._corked.append(message)

    def flush(self) -> None:
        messages = self._corked
        if messages is None or not self._open:
            return
        self._corked = None
        payload = self.encoding.join(messages) if len(messages) > 1 else messages[0]
        self._transport.write(self.framing.frame(payload))

    def close(self, disconnect: DisconnectCode) -> None:
        if self._open:
            self.flush()
            self._start_closing(disconnect)

    def too_slow(self) -> None:
        if self._session is not None:
            self._session.disconnect(SLOW)

    def subscription_lost(self, channel: str) -> None:
        if self._session is not None:
            self._session.subscription_lost(channel)

    def connected(self) -> None:
        self._shared.connects.met(self)
        self._shared.wheel.add(self)

    def pause_commands(self) -> None:
        if self._open and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume_commands(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            if not self._slow:
                self._transport.resume_reading()

    # Keepalive (gateway.edge.keepalive.Pinged) and deadlines.

    def ping(self) -> None:
        session = self._session
        if session is None or not self._open:
            return
        session.check_expiry()
        if self._open and not self._owes_pong:
            self._owes_pong = True
            self._shared.counters[names.PINGS] += 1
            self._transport.write(NATIVE_PING if self.native_ping else _PINGS[self.encoding.name])

    def check_pong(self) -> None:
        # While commands wait for Redis the socket is not read: the pong may be there.
        if self._owes_pong and not self._paused and self._session is not None:
            self._unread += 1
            if self._unread <= self._shared.late_pongs and takes_in(self._transport):
                return  # It reads slowly: the ping waits behind what it has not read.
            self._shared.counters[names.NO_PONG] += 1
            self._session.disconnect(NO_PONG)

    def grew_old(self) -> None:
        self._shared.counters[names.AGED] += 1
        self.shut_down(FORCE_RECONNECT)

    def connect_timed_out(self) -> None:
        if self._session is not None:
            self._session.disconnect(STALE, "no connect command in time")

    def close_timed_out(self) -> None:
        self._transport.abort()

    def shut_down(self, disconnect: DisconnectCode) -> None:
        """Close from outside, for a reason of the gateway's own."""
        if self._session is not None:
            self._session.disconnect(disconnect)

    # Bytes out.

    def _shut(self) -> None:
        """Nothing of the session's leaves any more, from here on."""
        self._open = self._between = False
        self.deliver = _ignore

    def _start_closing(self, disconnect: DisconnectCode) -> None:
        self._shut()
        send_close(self._websocket, disconnect)
        self._shared.wheel.remove(self)
        self._shared.connects.met(self)
        if self._paused:
            self.resume_commands()
        self._write_protocol_data()

    def _write_protocol_data(self) -> None:
        """Write what the protocol object wants to send; note when it wants to end the connection."""
        websocket = self._websocket
        end = write_pending(self._transport, websocket)
        if websocket.close_expected() or end:
            self._shut()
            if self not in self._shared.closings:
                self._shared.closings.start(self)
        if end and self._session is not None and websocket.parser_exc is not None:
            self._session.closed(str(websocket.parser_exc))
