"""A socket before its WebSocket handshake is done: from the first byte to a `Connection`, an answer, or a refusal.

Once the handshake is accepted the socket belongs to a `Connection` (`set_protocol`), and nothing of this stays behind.
"""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol

from gateway.edge.connection import Connection
from gateway.edge.handshake import Answer, Upgrade, choose_encoding, decide, not_a_request, origin_allowed
from gateway.edge.headers import fields_of, keep
from gateway.edge.shared import Shared
from gateway.edge.upgrade import accepting_response, read_ordinary
from gateway.edge.wire import make_protocol, take_apart, write_pending
from gateway.metrics import names


class Opening(asyncio.Protocol):
    """One socket that has not become a WebSocket yet."""

    __slots__ = ("_shared", "_transport", "_ws")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._ws: ServerProtocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._shared.handshakes.start(self)

    def data_received(self, data: bytes) -> None:
        shared = self._shared
        shared.counters[names.BYTES_IN] += len(data)
        if self._ws is None:
            if self._accept_ordinary(data):
                return
            self._ws = make_protocol(CONNECTING, shared.config.limits.message_bytes)
        websocket = self._ws
        websocket.receive_data(data)
        events = websocket.events_received()
        if events and isinstance(events[0], Request):
            decision = self._answer(websocket, events[0])
            if decision is not None:
                self._hand_over(websocket, decision).events_received(events[1:])
                return
        elif websocket.handshake_exc is not None and self in shared.handshakes:
            self._answer_garbage(websocket, data)
        self._write(websocket)

    def eof_received(self) -> bool | None:
        if self._ws is not None:
            self._ws.receive_eof()
            self._write(self._ws)
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it is not a connection yet
        self._shared.handshakes.met(self)
        self._shared.closings.met(self)
        if self._ws is not None:
            take_apart(self._ws)

    def handshake_timed_out(self) -> None:
        """No complete request within the connect time-out."""
        self._refused(names.REFUSED_TIMEOUT, "no request in time")
        self._transport.abort()

    def close_timed_out(self) -> None:
        """It was answered and does not go."""
        self._transport.abort()

    def _accept_ordinary(self, data: bytes) -> bool:
        """Whether `data` is an ordinary handshake that could be accepted at once; if not, the library looks at it."""
        settings = self._shared.config
        request = read_ordinary(data)
        if request is None or not origin_allowed(request.origins, request.host, settings.server.allowed_origins):
            return False
        decision = choose_encoding(request.offered, request.query)
        if isinstance(decision, Answer):
            return False
        if names_kept := settings.backend.headers:
            decision = decision._replace(headers=keep(fields_of(request.block), names_kept))
        subprotocol = decision.encoding.subprotocol if request.offered else None
        self._transport.write(accepting_response(request.key, subprotocol))
        self._hand_over(make_protocol(OPEN, settings.limits.message_bytes), decision)
        return True

    def _answer(self, websocket: ServerProtocol, request: Request) -> Upgrade | None:
        """Respond to a request; how to go on if it is now a WebSocket."""
        shared = self._shared
        decision = decide(request, shared.config.server.allowed_origins, shared.ready)
        if isinstance(decision, Answer):
            websocket.send_response(websocket.reject(decision.status, decision.text))
            if decision.reason:
                counter = names.REFUSED_ORIGIN if decision.reason == "origin" else names.REFUSED_REQUEST
                self._refused(counter, f"{request.method:.16} {request.path:.100}: {decision.text.strip()}")
            shared.handshakes.met(self)
            return None
        websocket.send_response(websocket.accept(request))
        if websocket.state is not OPEN:
            self._refused(names.REFUSED_REQUEST, str(websocket.handshake_exc))
            return None
        if names_kept := shared.config.backend.headers:
            decision = decision._replace(headers=keep(request.headers.raw_items(), names_kept))
        # The library's parser keeps the request for the life of the connection: 2 KiB of headers that nobody needs.
        request.headers.clear()
        write_pending(self._transport, websocket)
        return decision

    def _answer_garbage(self, websocket: ServerProtocol, data: bytes) -> None:
        """The library could not parse a request. It answers only if the request line or the headers are too long."""
        if not any(websocket.writes):
            status, text = not_a_request(data, str(websocket.handshake_exc))
            self._transport.write(websocket.reject(status, text).serialize())
        self._refused(names.REFUSED_REQUEST, str(websocket.handshake_exc))

    def _hand_over(self, websocket: ServerProtocol, upgrade: Upgrade) -> Connection:
        self._shared.handshakes.met(self)
        self._ws = None
        host, port = self._peer()
        connection = Connection(self._shared, self._transport, websocket, upgrade, f"{host}:{port}" if host else "")
        self._transport.set_protocol(connection)
        connection.start()
        return connection

    def _refused(self, counter: int, why: str) -> None:
        self._shared.counters[counter] += 1
        self._shared.log.info("handshake refused", peer=self._peer()[0], why=why)
        self._shared.handshakes.met(self)

    def _peer(self) -> tuple[str, int]:
        """Address of the client; empty when it is gone already."""
        peer = self._transport.get_extra_info("peername")
        return (peer[0], peer[1]) if isinstance(peer, tuple) else ("", 0)

    def _write(self, websocket: ServerProtocol) -> None:
        if write_pending(self._transport, websocket) and self not in self._shared.closings:
            self._shared.closings.start(self)
