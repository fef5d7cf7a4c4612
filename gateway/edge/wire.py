"""The protocol object of `websockets` on a transport: making one, writing what it wants to send, taking it apart."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Sequence
from typing import Final

from websockets.extensions import ServerExtensionFactory
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from protocol.encodings import BY_SUBPROTOCOL

UNANSWERED: Final = slice(2, 4)
"""`tcpi_retransmits` and `tcpi_probes` (a byte each) in Linux' `struct tcp_info`: sent again without any answer."""

_silent: Final = logging.getLogger("gateway.websockets")
_silent.setLevel(logging.CRITICAL)


class _Protocol(ServerProtocol):
    """The library's default refuses a client that offers no subprotocol; centrifuge-js offers none for JSON."""

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((name for name in subprotocols if name in BY_SUBPROTOCOL), None)


def make_protocol(
    state: State, message_bytes: int, extensions: Sequence[ServerExtensionFactory] = ()
) -> ServerProtocol:
    """A protocol object in `state` (CONNECTING or OPEN) that refuses messages above `message_bytes` (1009).

    `extensions`: what it may agree on in a handshake.
    """
    return _Protocol(state=state, max_size=message_bytes, logger=_silent, extensions=extensions or None)


def write_pending(transport: asyncio.Transport, websocket: ServerProtocol) -> bool:
    """Write what the protocol object wants to send. True = it wants to end the connection, and our side has ended.

    Half-close, and go on reading until the client's end: closing with unread data would reset the connection and could
    take the close frame with it.
    """
    parts = websocket.data_to_send()
    if not parts or transport.is_closing():
        return False
    end = parts[-1] == b""
    data = b"".join(parts)
    if data:
        transport.write(data)
    if end:
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
    return end


def take_apart(websocket: ServerProtocol) -> None:
    """Cut the cycles in a protocol object that is not needed any more.

    Its parser is a generator that refers to it, and its errors have tracebacks whose frames do: without this it would
    wait for the garbage collector, which does not look at frozen objects.
    """
    websocket.parser.close()
    for error in (websocket.parser_exc, websocket.handshake_exc):
        cause: BaseException | None = error
        while cause is not None:
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__


def takes_in(transport: asyncio.Transport) -> bool:
    """Whether bytes wait for the peer to read them, and its host answers.

    Tells a client that reads slowly (its window is closed, its host answers the probes) from one that has vanished
    (nothing is acknowledged) and from one that has everything and does not answer. Linux; False elsewhere.
    """
    tcp = transport.get_extra_info("socket")
    try:
        unsent = struct.unpack("i", fcntl.ioctl(tcp.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        if not unsent and not transport.get_write_buffer_size():
            return False
        return bool(max(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, UNANSWERED.stop)[UNANSWERED]) <= 1)
    except (OSError, AttributeError, ValueError):
        return False
