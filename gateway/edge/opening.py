"""A socket before its WebSocket handshake is done: from the first byte to a `Connection`, an answer, or a refusal.

In this order: the PROXY protocol header where one is demanded, the request, admission (`gateway.edge.admission`), and,
perhaps after a wait, the acceptance. Once the handshake is accepted the socket belongs to a `Connection`
(`set_protocol`), and nothing of this stays behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

from websockets.exceptions import InvalidHeader
from websockets.extensions import Extension
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol

from gateway.edge.connection import Connection
from gateway.edge.handshake import Answer, Upgrade, choose_encoding, decide, not_a_request, origin_allowed
from gateway.edge.headers import fields_of, keep
from gateway.edge.proxy_protocol import ProxyProtocolError, read_header
from gateway.edge.shared import Shared
from gateway.edge.upgrade import Ordinary, accepting_response, read_ordinary
from gateway.edge.wire import make_protocol, take_apart, write_pending
from gateway.metrics import names


class Opening(asyncio.Protocol):
    """One socket that has not become a WebSocket yet."""

    __slots__ = ("_accept", "_entered", "_head", "_host", "_port", "_shared", "_transport", "_ws")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._ws: ServerProtocol | None = None
        self._head: bytes | None = b"" if shared.admission.proxy_protocol else None  # of the PROXY protocol
        self._accept: Callable[[], None] | None = None  # while it waits for its turn
        self._entered = False  # whether it has a place that must be left
        self._host = ""
        self._port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._host, self._port = peer[0], peer[1]
        self._shared.handshakes.start(self)

    def data_received(self, data: bytes) -> None:
        shared = self._shared
        shared.counters[names.BYTES_IN] += len(data)
        if self._head is not None and not (data := self._introduced(self._head + data)):
            return
        if self._ws is None:
            if self._read_ordinary(data):
                return
            self._ws = make_protocol(CONNECTING, shared.config.limits.message_bytes, shared.compression.offered)
        websocket = self._ws
        websocket.receive_data(data)
        events = websocket.events_received()
        if events and isinstance(events[0], Request):
            self._answer(websocket, events[0], events[1:])
        elif websocket.handshake_exc is not None and self in shared.handshakes:
            self._answer_garbage(websocket, data)
        if self._ws is not None:
            self._write(websocket)

    def eof_received(self) -> bool | None:
        if self._ws is not None:
            self._ws.receive_eof()
            self._write(self._ws)
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it is not a connection yet
        shared = self._shared
        shared.handshakes.met(self)
        shared.closings.met(self)
        self._accept = None
        shared.admission.pace.leave(self)
        if self._entered:
            self._entered = False
            shared.admission.leave(self._host)
        if self._ws is not None:
            take_apart(self._ws)

    def handshake_timed_out(self) -> None:
        """No complete request within the connect time-out, or no turn."""
        self._refused(names.REFUSED_TIMEOUT, "no request in time" if self._accept is None else "no turn in time")
        self._transport.abort()

    def close_timed_out(self) -> None:
        """It was answered and does not go."""
        self._transport.abort()

    def turn_came(self) -> None:
        """It has waited for its turn long enough (`gateway.edge.pace`)."""
        accept, self._accept = self._accept, None
        if accept is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            accept()

    # The request.

    def _introduced(self, data: bytes) -> bytes:
        """What follows the PROXY protocol header; nothing while it is incomplete, or when it was refused."""
        address = self._shared.admission.address
        if self._transport.is_closing():
            return b""
        try:
            if not address.may_introduce(self._host):
                raise ProxyProtocolError("not from a trusted proxy")
            header = read_header(data)
        except ProxyProtocolError as error:
            self._refused(names.REFUSED_PROXY, str(error))
            self._transport.close()
            return b""
        if header is None:
            self._head = data
            return b""
        self._head = None
        if header.source:
            self._host, self._port = header.source, header.port
        return data[header.size :]

    def _read_ordinary(self, data: bytes) -> bool:
        """Whether `data` is an ordinary handshake that could be accepted; if not, the library looks at it."""
        shared = self._shared
        request = read_ordinary(data)
        if request is None or not origin_allowed(request.origins, request.host, shared.config.server.allowed_origins):
            return False
        decision = choose_encoding(request.offered, request.query)
        if isinstance(decision, Answer):
            return False
        try:
            agreed = shared.compression.accept(request.extensions) if request.extensions else None
        except InvalidHeader:
            return False
        if shared.admission.address.trusts(self._host):
            self._forwarded(fields_of(request.block))
        self._admit(partial(self._accept_ordinary, request, decision, agreed))
        return True

    def _answer(self, websocket: ServerProtocol, request: Request, rest: Sequence[object]) -> None:
        """Respond to a request. `rest`: what came behind it."""
        shared = self._shared
        if shared.admission.address.trusts(self._host):
            self._forwarded(request.headers.raw_items())
        decision = decide(request, shared.config.server.allowed_origins, shared.ready)
        if not isinstance(decision, Answer):
            self._admit(partial(self._accept_parsed, websocket, request, decision, rest))
            return
        if decision.reason:
            counter = names.REFUSED_ORIGIN if decision.reason == "origin" else names.REFUSED_REQUEST
            self._refused(counter, f"{request.method:.16} {request.path:.100}: {decision.text.strip()}")
        self._reject(websocket, decision)

    def _forwarded(self, fields: Iterable[tuple[str, str]]) -> None:
        """A trusted proxy says in these header fields for whom it connects. The port is not known then: 0."""
        self._host, self._port = self._shared.admission.address.behind(self._host, fields), 0

    def _answer_garbage(self, websocket: ServerProtocol, data: bytes) -> None:
        """The library could not parse a request. It answers only if the request line or the headers are too long."""
        if not any(websocket.writes):
            status, text = not_a_request(data, str(websocket.handshake_exc))
            self._transport.write(websocket.reject(status, text).serialize())
        self._refused(names.REFUSED_REQUEST, str(websocket.handshake_exc))

    # The answer.

    def _admit(self, accept: Callable[[], None]) -> None:
        """Call `accept`, now or when it is this one's turn; or refuse."""
        admission = self._shared.admission
        refusal = admission.enter(self._host)
        if refusal is None:
            self._entered = True
            if admission.pace.take():
                accept()
                return
            refusal = admission.queue(self)
        if refusal is None:
            self._accept = accept
            self._transport.pause_reading()
            return
        self._shared.log.info("handshake refused", peer=self._host, why=refusal.text.strip())
        if self._ws is None:
            self._ws = make_protocol(CONNECTING, self._shared.config.limits.message_bytes)
        self._reject(self._ws, refusal)
        self._write(self._ws)

    def _accept_ordinary(self, request: Ordinary, upgrade: Upgrade, agreed: tuple[str, Extension] | None) -> None:
        if names_kept := self._shared.config.backend.headers:
            upgrade = upgrade._replace(headers=keep(fields_of(request.block), names_kept))
        subprotocol = upgrade.encoding.subprotocol if request.offered else None
        websocket = None
        if agreed is not None:
            websocket = make_protocol(OPEN, self._shared.config.limits.message_bytes)
            websocket.extensions = [agreed[1]]
        self._transport.write(accepting_response(request.key, subprotocol, agreed[0] if agreed is not None else ""))
        self._hand_over(websocket, upgrade)

    def _accept_parsed(
        self, websocket: ServerProtocol, request: Request, upgrade: Upgrade, rest: Sequence[object]
    ) -> None:
        websocket.send_response(websocket.accept(request))
        if websocket.state is not OPEN:
            self._refused(names.REFUSED_REQUEST, str(websocket.handshake_exc))
            self._write(websocket)
            return
        if names_kept := self._shared.config.backend.headers:
            upgrade = upgrade._replace(headers=keep(request.headers.raw_items(), names_kept))
        # The library's parser keeps the request for the life of the connection: 2 KiB of headers that nobody needs.
        request.headers.clear()
        write_pending(self._transport, websocket)
        self._hand_over(websocket, upgrade).events_received(rest)

    def _reject(self, websocket: ServerProtocol, answer: Answer) -> None:
        response = websocket.reject(answer.status, answer.text)
        if answer.retry_after_s:
            response.headers["Retry-After"] = str(answer.retry_after_s)
        websocket.send_response(response)
        self._shared.handshakes.met(self)

    def _hand_over(self, websocket: ServerProtocol | None, upgrade: Upgrade) -> Connection:
        self._shared.handshakes.met(self)
        self._ws = None
        self._entered = False
        framing = self._shared.compression.framing(
            upgrade.encoding, websocket.extensions if websocket is not None else ()
        )
        peer = f"{self._host}:{self._port}" if self._host else ""
        connection = Connection(self._shared, self._transport, websocket, upgrade, framing, peer)
        self._transport.set_protocol(connection)
        connection.start()
        return connection

    def _refused(self, counter: int, why: str) -> None:
        self._shared.counters[counter] += 1
        self._shared.log.info("handshake refused", peer=self._host, why=why)
        self._shared.handshakes.met(self)

    def _write(self, websocket: ServerProtocol) -> None:
        if write_pending(self._transport, websocket) and self not in self._shared.closings:
            self._shared.closings.start(self)
