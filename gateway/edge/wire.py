"""The protocol object of `websockets` on a transport: making one, writing what it wants to send, taking it apart.

And reading whole messages without it, where it would not read them differently (`gateway.edge.messages` has the why).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Sequence
from typing import Any, Final

from websockets.extensions import ServerExtensionFactory
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from protocol.codes import DisconnectCode
from protocol.encodings import BY_SUBPROTOCOL

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

UNANSWERED: Final = slice(2, 4)
"""`tcpi_retransmits` and `tcpi_probes` (a byte each) in Linux' `struct tcp_info`: sent again without any answer."""

_FIN: Final = 0x80
_MASKED: Final = 0x80
_LEAST: Final = 6
"""Bytes of the shortest masked frame."""
_TWO_BYTES: Final = 126
"""Length that says: the length is in the next two bytes (RFC 6455 §5.2)."""
_WAITING: Final = StreamReader.at_eof.__code__
"""Where the parser waits between two frames."""

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


def is_between_frames(websocket: ServerProtocol) -> bool:
    """Whether the protocol object waits for the first byte of a frame. False when that cannot be told."""
    waiting: Any = websocket.parser
    while (inner := waiting.gi_yieldfrom) is not None:
        waiting = inner
    return waiting.gi_code is _WAITING


def whole_messages(data: bytes, opcode: int, most_bytes: int) -> tuple[list[bytes], bytes]:
    """The messages that `data` begins with, each in one whole frame of this opcode, and the rest of `data`.

    The rest is empty, or begins with something else, with a frame that is not all there, or with a message of more than
    `most_bytes` or 64 KiB.
    """
    found = []
    position, end, ordinary = 0, len(data), opcode | _FIN
    while end - position >= _LEAST and data[position] == ordinary:
        size, start = data[position + 1] - _MASKED, position + 2
        if size == _TWO_BYTES:
            size, start = data[start] << 8 | data[start + 1], start + 2
        elif not 0 <= size < _TWO_BYTES:
            break
        masked = start + 4
        behind = masked + size
        if behind > end or size > most_bytes:
            break
        found.append(apply_mask(data[masked:behind], data[start:masked]))
        position = behind
    return found, data[position:] if position else data


def send_close(websocket: ServerProtocol, disconnect: DisconnectCode) -> None:
    """Unless the protocol object closes already: it found damage behind the message that is answered with this."""
    if websocket.state is State.OPEN:
        websocket.send_close(disconnect.code, disconnect.reason)


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
