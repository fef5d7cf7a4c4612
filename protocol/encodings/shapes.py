"""What the fields of a protocol struct are: from its type hints, so that encodings need no lists of their own."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Raw

Kind = Literal["scalar", "data", "struct", "structs", "struct_map", "map"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `struct`: the type of what is inside; None = nothing is."""

    name: str
    kind: Kind
    struct: type[msgspec.Struct] | None = None


def fields_of(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The fields, in the order of the struct."""
    hints = typing.get_type_hints(struct)
    return tuple(_field(name, hints[name]) for name in struct.__struct_fields__)


def structs_in(*roots: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """`roots` and every struct that can be inside them, each before what is inside it."""
    found: dict[type[msgspec.Struct], None] = {}

    def walk(struct: type[msgspec.Struct]) -> None:
        if struct not in found:
            found[struct] = None
            for field in fields_of(struct):
                if field.struct is not None:
                    walk(field.struct)

    for root in roots:
        walk(root)
    return list(found)


def _field(name: str, hint: Any) -> Field:
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if Raw in arguments:
            return Field(name, "data")
        (hint,) = (each for each in arguments if each is not type(None))
        return _field(name, hint)
    if origin is list:
        return Field(name, "structs", arguments[0])
    if origin is dict:
        return Field(name, "map") if arguments[1] is str else Field(name, "struct_map", arguments[1])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return Field(name, "struct", hint)
    return Field(name, "scalar")
