"""Token streams: a text that grows while clients watch, and that they can come back to.

A backend writes (`Streams.open`) and reads (`Streams.read`); clients subscribe to the channel `stream:<key>` with any
SDK. `records` says what they get. Redis holds the text (`gateway.broker.streams`); nothing here keeps any, except what
a producer may have to send again, and what a worker shares among clients that arrive together.
"""

from gateway.errors import (
    StreamActive,
    StreamCancelled,
    StreamClosed,
    StreamDenied,
    StreamEnded,
    StreamError,
    StreamInvalid,
    StreamSuperseded,
    StreamTruncated,
    StreamUnavailable,
)
from gateway.streams.options import Options
from gateway.streams.records import Record
from gateway.streams.streams import Streams, StreamStatus
from gateway.streams.writer import StreamWriter

__all__ = [
    "Options",
    "Record",
    "StreamActive",
    "StreamCancelled",
    "StreamClosed",
    "StreamDenied",
    "StreamEnded",
    "StreamError",
    "StreamInvalid",
    "StreamStatus",
    "StreamSuperseded",
    "StreamTruncated",
    "StreamUnavailable",
    "StreamWriter",
    "Streams",
]
