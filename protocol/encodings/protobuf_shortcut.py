"""A short cut for the Protobuf commands that clients send most: from their bytes straight into structs.

Messages of `google.protobuf` are quick to parse and slow to look into: to ask one for a field takes about as long as to
read it from its bytes right here. So a command of plain fields and one request of plain fields is read here
(`make bench-encodings`). Anything else, and anything that may be wrong in any way, is left to `google.protobuf`, whose
reading is the one that counts: maps, lists and what is nested deeper, field numbers that are unknown or above 15,
numbers of more than 28 bits, a request that is there twice, text that is no UTF-8, whatever ends too early.

What is easiest to break: that the two read the same. `tests/protocol/test_protobuf_shortcut.py` compares them on frames
that are written by us, by Google, by nobody, and damaged ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import UNSET, Raw

from protocol.encodings.binary import as_document
from protocol.encodings.shapes import fields_of

Shortcut = Callable[[bytes, int, int], Any]
"""The struct that is between two positions; None, IndexError, KeyError or ValueError = it is not for this to read."""
_Field = tuple[int, str, Shortcut | None]
"""Kind, name, and the reader of a request."""

_TEXT: Final = 0
_DATA: Final = 1
_NUMBER: Final = 2
_FLAG: Final = 3
_REQUEST: Final = 4
_KINDS: Final = {
    FieldDescriptor.TYPE_STRING: _TEXT,
    FieldDescriptor.TYPE_BYTES: _DATA,
    FieldDescriptor.TYPE_UINT32: _NUMBER,
    FieldDescriptor.TYPE_UINT64: _NUMBER,
    FieldDescriptor.TYPE_INT32: _NUMBER,
    FieldDescriptor.TYPE_INT64: _NUMBER,
    FieldDescriptor.TYPE_BOOL: _FLAG,
}
_LENGTH_DELIMITED: Final = 2
"""Wire type of strings, bytes and messages; that of numbers and flags is 0 (protobuf.dev, "Encoding")."""
_HIGHEST_NUMBER: Final = 15
"""The highest field number whose tag is one byte."""
_NUMBER_BYTES: Final = 4
"""Longer numbers may be too large for their field, or negative."""


def shortcut(struct: type[msgspec.Struct], descriptor: Descriptor) -> Shortcut:
    """For messages of this type, of which at most one nested one is there: a choice."""
    table = _plain_fields(struct, descriptor)
    for field in fields_of(struct):
        found = descriptor.fields_by_name.get(field.name)
        if field.struct is None or field.kind != "struct" or found is None or found.number > _HIGHEST_NUMBER:
            continue
        read_request = _scanner(field.struct, _plain_fields(field.struct, cast("Descriptor", found.message_type)))
        table[found.number << 3 | _LENGTH_DELIMITED] = (_REQUEST, field.name, read_request)
    return _scanner(struct, table)


def read_length(payload: bytes, position: int, most_bytes: int) -> tuple[int, int]:
    """A number of several bytes, and the position behind it. Raises IndexError, ValueError when it is longer."""
    size = 0
    for number in range(most_bytes):
        byte = payload[position + number]
        size |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return size, position + number + 1
    raise ValueError("a number with too many bytes")


def _plain_fields(struct: type[msgspec.Struct], descriptor: Descriptor) -> dict[int, _Field]:
    """Tag → field, of those without anything inside."""
    names = {field.name for field in fields_of(struct) if field.kind in ("scalar", "data")}
    found: dict[int, _Field] = {}
    for field in descriptor.fields:
        kind = _KINDS.get(field.type)
        if kind is None or field.name not in names or field.number > _HIGHEST_NUMBER:
            continue
        wire_type = _LENGTH_DELIMITED if kind in (_TEXT, _DATA) else 0
        found[field.number << 3 | wire_type] = (kind, field.name, None)
    return found


def _scanner(struct: type[msgspec.Struct], table: dict[int, _Field]) -> Shortcut:
    def scan(payload: bytes, position: int, end: int) -> Any:
        made = struct()
        requested = False
        while position < end:
            kind, name, read_request = table[payload[position]]
            value = payload[position + 1]
            if value < 0x80:
                start = position + 2
            elif payload[position + 2] < 0x80:
                value += (payload[position + 2] - 1) << 7
                start = position + 3
            else:
                value, start = read_length(payload, position + 1, _NUMBER_BYTES)
            if kind == _TEXT:
                position = start + value
                setattr(made, name, payload[start:position].decode())
            elif kind == _NUMBER:
                position = start
                setattr(made, name, value)
            elif kind == _FLAG:
                position = start
                setattr(made, name, value != 0)
            elif read_request is None:
                position = start + value
                data = payload[start:position]
                setattr(made, name, Raw(as_document(data)) if data else UNSET)
            else:
                position = start + value
                request = read_request(payload, start, position)
                if requested or request is None:
                    return None
                requested = True
                setattr(made, name, request)
        return made if position == end else None

    return scan
