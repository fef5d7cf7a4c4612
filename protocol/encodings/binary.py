"""Binary payloads, in a gateway whose documents are JSON.

Everything inside the gateway, in Redis and in its logs is JSON. A payload that is none has one lossless form there:

    {"$binary":"<standard base64>"}

Clients with a binary encoding never see it: Protobuf and msgpack clients send and get the bytes themselves. JSON
clients get the object, and what they publish in this form is binary for everybody else. Bytes that are a JSON document
(in UTF-8) *are* that document, whichever way they came.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from protocol.encodings.json import json_line
from protocol.errors import DecodeError

KEY: Final = "$binary"
"""The one key of the object."""
MARK: Final = b'"$binary"'
"""Every document with binary data has it somewhere; one that is binary data has it within MARK_WITHIN bytes."""
MARK_WITHIN: Final = 32

_WRAPPED: Final = re.compile(rb'\s*\{\s*"\$binary"\s*:\s*"([A-Za-z0-9+/=]*)"\s*\}\s*')


def wrap(payload: bytes) -> bytes:
    """The JSON form of `payload`."""
    return b'{"$binary":"%b"}' % binascii.b2a_base64(payload, newline=False)


def unwrap(document: bytes) -> bytes:
    """The bytes that a JSON document stands for: those of its binary form, else its own text."""
    if MARK in document[:MARK_WITHIN] and (match := _WRAPPED.fullmatch(document)):
        payload = from_base64(match[1])
        if payload is not None:
            return payload
    return document


def as_document(payload: bytes) -> bytes:
    """The JSON document (on one line) that `payload` is, or its binary form."""
    try:
        return json_line(payload)
    except DecodeError:
        return wrap(payload)


def from_base64(text: bytes | str) -> bytes | None:
    """None = it is not standard base64."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
