"""permessage-deflate (RFC 7692): negotiated once per connection, paid once per publication.

Always without context takeover, both ways: then a message is compressed the same for everybody whose window is as
large, its frame is shared like any other, and no connection keeps a compressor. A browser's window is 15 bits, so in
practice there is one compressed form beside the plain one. A compressed connection may be sent plain messages at any
time: short ones are, and all of them while memory is short.

Inbound, the library inflates, never beyond `limits.message_bytes`, with an inflater that lives as long as a message.

Length tells: whoever sees the sizes of messages and can put text of his own into them learns what else is in them
(CRIME, BREACH). Messages are compressed apart from each other, so this concerns secrets and foreign text that travel in
one message; where that happens, switch it off.

The level is measured: more than 1 costs several times as much for a few per cent.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from websockets.exceptions import NegotiationError
from websockets.extensions import ServerExtensionFactory
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionName

from gateway.config import Delivery
from gateway.metrics import names
from protocol.encodings import ENCODINGS, Encoding
from protocol.frames import PLAIN, Framing

LEVEL: Final = 1
MEM_LEVEL: Final = 5
"""Of zlib, where 8 is usual: twice as fast for a few hundred bytes, as there is less to clear, and as short."""
LARGEST_BYTES: Final = 1_048_576
"""Payloads above stay plain: to compress them would hold up the loop for some 10 ms."""
WINDOW_BITS: Final = range(9, 16)

_NAME: Final = "permessage-deflate"
_END: Final = b"\x00\x00\xff\xff"


class Compression:
    """What a worker knows of compression. One framing for each encoding and window."""

    __slots__ = ("_counters", "_factory", "_framings", "_least", "allowed")

    def __init__(self, counters: memoryview[int], settings: Delivery) -> None:
        self._counters = counters
        self._least = settings.compression_min_bytes
        self.allowed = True
        """False while memory is short: nobody is granted it, nothing is compressed."""
        self._factory = (
            ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
            if settings.compression
            else None
        )
        self._framings = {
            (encoding.name, bits): Framing(encoding, bits, self._deflate)
            for encoding in ENCODINGS
            for bits in WINDOW_BITS
        }

    @property
    def offered(self) -> list[ServerExtensionFactory]:
        """For the library's own handshake: what new connections may have."""
        return [self._factory] if self._factory is not None and self.allowed else []

    def accept(self, offers: str) -> tuple[str, PerMessageDeflate] | None:
        """What is agreed on with a client that offers this (`Sec-WebSocket-Extensions`); None = nothing.

        Raises InvalidHeader for what is no such header.
        """
        if not self.offered:
            return None
        (factory,) = self.offered
        for name, parameters in parse_extension(offers):
            if name != _NAME:
                continue
            try:
                agreed, extension = factory.process_request_params(parameters, [])
            except NegotiationError:
                continue
            if isinstance(extension, PerMessageDeflate):
                return build_extension([(ExtensionName(_NAME), agreed)]), extension
        return None

    def framing(self, encoding: Encoding, extensions: Sequence[object]) -> Framing:
        """That of a connection with these extensions."""
        for extension in extensions:
            if isinstance(extension, PerMessageDeflate):
                return self._framings[encoding.name, extension.local_max_window_bits]
        return PLAIN[encoding.name]

    def _deflate(self, payload: bytes, window_bits: int) -> bytes | None:
        size = len(payload)
        if size < self._least or size > LARGEST_BYTES or not self.allowed:
            return None
        deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -window_bits, MEM_LEVEL)
        shorter = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
        if len(shorter) - len(_END) >= size:
            return None
        counters = self._counters
        counters[names.COMPRESSED] += 1
        counters[names.COMPRESSED_FROM] += size
        counters[names.COMPRESSED_TO] += len(shorter) - len(_END)
        return shorter[: -len(_END)]
