"""A socket before its WebSocket handshake is done: from the first byte to a `Connection`, an answer, or a refusal.

In this order: the PROXY protocol header where one is demanded, the request, admission (`gateway.edge.admission`), and,
perhaps after a wait, the acceptance. Once the handshake is accepted the socket belongs to a `Connection`
(`set_protocol`), and nothing of this stays behind.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, cast

from websockets.exceptions import InvalidHeader
from websockets.extensions import Extension
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol

from gateway.edge.connection import Connection
from gateway.edge.handshake import Answer, Upgrade, choose_encoding, decide, origin_allowed
from gateway.edge.headers import fields_of, keep
from gateway.edge.proxy_protocol import ProxyProtocolError, read_header
from gateway.edge.request import BadRequest, parse_head, take_head
from gateway.edge.shared import Shared
from gateway.edge.upgrade import Ordinary, accepting_response, read_ordinary
from gateway.edge.wire import make_protocol, take_apart
from gateway.metrics import names

DISCARDED_BYTES: Final = 1_048_576
"""What may come after an answer before the socket is reset: a client that sends a lot can still read the refusal."""


class Opening(asyncio.Protocol):
    """One socket that has not become a WebSocket yet."""

    __slots__ = (
        "_accept",
        "_answered",
        "_discarded",
        "_entered",
        "_head",
        "_host",
        "_introduction",
        "_port",
        "_shared",
        "_transport",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._introduction: bytes | None = b"" if shared.admission.proxy_protocol else None  # of the PROXY protocol
        self._head = b""  # what there is of the request; while it waits for its turn, what came behind it
        self._accept: Callable[[bytes], None] | None = None  # while it waits for its turn
        self._answered = False
        self._discarded = 0  # bytes that came after the answer
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
        if self._introduction is not None and not (data := self._introduced(self._introduction + data)):
            return
        if self._answered:
            self._discard(len(data))
            return
        searched = len(self._head)
        if searched:
            data = self._head + data
        if self._accept is not None:
            self._head = data
            return
        try:
            size = take_head(data, searched, shared.config.limits.request_bytes)
            if not size:
                self._head = data
                return
            self._head = b""
            if size == len(data):
                self._request(data, b"")
            else:
                self._request(data[:size], data[size:])
        except BadRequest as problem:
            self._head = b""
            self._refuse(Answer(problem.status, f"{problem}\n", "bad_request"), str(problem))

    def eof_received(self) -> bool | None:
        return None  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it is not a connection yet
        shared = self._shared
        shared.handshakes.met(self)
        shared.closings.met(self)
        self._accept = None
        shared.admission.pace.leave(self)
        if self._entered:
            self._entered = False
            shared.admission.leave(self._host)

    def handshake_timed_out(self) -> None:
        """No complete request within the connect time-out, or no turn."""
        self._count_refused(names.REFUSED_TIMEOUT, "no request in time" if self._accept is None else "no turn in time")
        self._transport.abort()

    def close_timed_out(self) -> None:
        """It was answered and does not go."""
        self._transport.abort()

    def turn_came(self) -> None:
        """It has waited for its turn long enough (`gateway.edge.pace`)."""
        accept, self._accept = self._accept, None
        if accept is not None and not self._transport.is_closing():
            rest, self._head = self._head, b""
            self._transport.resume_reading()
            accept(rest)

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
            self._count_refused(names.REFUSED_PROXY, str(error))
            self._transport.close()
            return b""
        if header is None:
            self._introduction = data
            return b""
        self._introduction = None
        if header.source:
            self._host, self._port = header.source, header.port
        return data[header.size :]

    def _request(self, head: bytes, rest: bytes) -> None:
        """A complete request. `rest`: what came behind it. Raises BadRequest."""
        if len(rest) > self._shared.config.limits.request_bytes:
            raise BadRequest(http.HTTPStatus.BAD_REQUEST, "Bad request: too much was sent before the answer.")
        if not self._read_ordinary(head, rest):
            self._answer(parse_head(head), rest)

    def _read_ordinary(self, head: bytes, rest: bytes) -> bool:
        """Whether `head` is an ordinary handshake that could be accepted; if not, it goes the long way."""
        shared = self._shared
        request = read_ordinary(head)
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
        self._admit(partial(self._accept_ordinary, request, decision, agreed), rest)
        return True

    def _answer(self, request: Request, rest: bytes) -> None:
        """Respond to a request. `rest`: what came behind it."""
        shared = self._shared
        if shared.admission.address.trusts(self._host):
            self._forwarded(request.headers.raw_items())
        decision = decide(request, shared.config.server.allowed_origins, shared.ready)
        if not isinstance(decision, Answer):
            self._admit(partial(self._accept_parsed, request, decision), rest)
        elif decision.reason:
            self._refuse(decision, f"{request.method} {request.path:.100}: {decision.text.strip()}", request.method)
        else:
            self._reject(decision, request.method)

    def _forwarded(self, fields: Iterable[tuple[str, str]]) -> None:
        """A trusted proxy says in these header fields for whom it connects. The port is not known then: 0."""
        self._host, self._port = self._shared.admission.address.behind(self._host, fields), 0

    # The answer.

    def _admit(self, accept: Callable[[bytes], None], rest: bytes) -> None:
        """Call `accept` with what came behind the request, now or when it is this one's turn; or refuse."""
        admission = self._shared.admission
        refusal = admission.enter(self._host)
        if refusal is None:
            self._entered = True
            if admission.pace.take():
                accept(rest)
                return
            refusal = admission.queue(self)
        if refusal is None:
            self._accept, self._head = accept, rest
            self._transport.pause_reading()
            return
        self._shared.log.info("handshake refused", peer=self._host, why=refusal.text.strip())
        self._reject(refusal)

    def _accept_ordinary(
        self, request: Ordinary, upgrade: Upgrade, agreed: tuple[str, Extension] | None, rest: bytes
    ) -> None:
        if names_kept := self._shared.config.backend.headers:
            upgrade = upgrade._replace(headers=keep(fields_of(request.block), names_kept))
        subprotocol = upgrade.encoding.subprotocol if request.offered else None
        self._transport.write(accepting_response(request.key, subprotocol, agreed[0] if agreed is not None else ""))
        self._hand_over(upgrade, [agreed[1]] if agreed is not None else [], rest)

    def _accept_parsed(self, request: Request, upgrade: Upgrade, rest: bytes) -> None:
        limits = self._shared.config.limits
        websocket = make_protocol(CONNECTING, limits.message_bytes, self._shared.compression.offered)
        response = websocket.accept(request)
        extensions, problem = websocket.extensions, str(websocket.handshake_exc)
        take_apart(websocket)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._count_refused(names.REFUSED_REQUEST, problem)
            self._end(response.serialize())
            return
        if names_kept := self._shared.config.backend.headers:
            upgrade = upgrade._replace(headers=keep(request.headers.raw_items(), names_kept))
        self._transport.write(response.serialize())
        self._hand_over(upgrade, extensions, rest)

    def _refuse(self, answer: Answer, why: str, method: str = "GET") -> None:
        """Answer what is no good request."""
        self._count_refused(names.REFUSED_ORIGIN if answer.reason == "origin" else names.REFUSED_REQUEST, why)
        self._reject(answer, method)

    def _reject(self, answer: Answer, method: str = "GET") -> None:
        """Respond without an upgrade. A response to HEAD has no body (RFC 9110 §9.3.2)."""
        response = make_protocol(CONNECTING, 0).reject(answer.status, answer.text)
        for name, value in answer.fields:
            response.headers[name] = value
        if method == "HEAD":
            response.body = b""
        self._end(response.serialize())

    def _end(self, response: bytes) -> None:
        """Write a last response and end our side. What still comes is read and discarded until the client ends its
        side: to close a socket with unread bytes would reset it, and could take the response along."""
        self._shared.handshakes.met(self)
        self._answered = True
        self._transport.write(response)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
        self._shared.closings.start(self)

    def _discard(self, size: int) -> None:
        """Bytes that came after the answer."""
        self._discarded += size
        if self._discarded > DISCARDED_BYTES:
            self._transport.abort()

    def _hand_over(self, upgrade: Upgrade, extensions: list[Extension], rest: bytes) -> None:
        """The handshake is accepted: the socket is a connection's from here on."""
        shared = self._shared
        shared.handshakes.met(self)
        self._entered = False
        websocket: ServerProtocol | None = None
        if extensions:
            websocket = make_protocol(OPEN, shared.config.limits.message_bytes)
            websocket.extensions = extensions
        framing = shared.compression.framing(upgrade.encoding, extensions)
        peer = f"{self._host}:{self._port}" if self._host else ""
        connection = Connection(shared, self._transport, websocket, upgrade, framing, peer)
        self._transport.set_protocol(connection)
        connection.start()
        if rest:
            shared.counters[names.BYTES_IN] -= len(rest)  # the connection counts what it reads
            connection.data_received(rest)

    def _count_refused(self, counter: int, why: str) -> None:
        self._shared.counters[counter] += 1
        self._shared.log.info("handshake refused", peer=self._host, why=why)
        self._shared.handshakes.met(self)
