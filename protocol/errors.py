"""What this package raises. A leaf.

ProtocolError
├── DecodeError    bytes that are no message; the peer's fault
├── EnvelopeError  a Redis payload that is neither JSON nor a known envelope; the publisher's fault
└── ChannelError   a channel name that the grammar refuses; the caller's fault
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Base of all errors of the protocol package. Nothing else escapes from its decoders."""


class DecodeError(ProtocolError):
    """A frame from a client that is not a sequence of commands."""


class EnvelopeError(ProtocolError):
    """A payload from a Redis channel that cannot be delivered."""


class ChannelError(ProtocolError):
    """A channel name that cannot exist. The message says why, in words for the client."""
