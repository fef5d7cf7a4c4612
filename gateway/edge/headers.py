"""The few headers of a handshake that are kept, for hooks into the backend; all others are dropped with the request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

NONE: Final[Mapping[str, str]] = {}


def keep(fields: Iterable[tuple[str, str]], names: Collection[str]) -> Mapping[str, str]:
    """Those with one of the `names` (lower case), several of one name joined as RFC 9110 §5.3 and RFC 6265bis say.

    A value that is not printable ASCII is left out: it could not be passed on as it is.
    """
    kept: dict[str, str] = {}
    for name, value in fields:
        lower = name.lower()
        if lower not in names or not value.isascii() or not value.replace("\t", " ").isprintable():
            continue
        if lower in kept:
            kept[lower] += ("; " if lower == "cookie" else ", ") + value
        else:
            kept[lower] = value
    return kept or NONE


def fields_of(block: str) -> Iterator[tuple[str, str]]:
    """Names and values of the lines of a checked request."""
    for line in block.split("\r\n"):
        name, _, value = line.partition(":")
        yield name, value.strip(" \t")
