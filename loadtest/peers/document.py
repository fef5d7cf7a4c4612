"""The part of a document that a run writes."""

from __future__ import annotations

from typing import Final

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"


def written(document: str, measured: str) -> str:
    """`document` with `measured` between its marks. Raises `ValueError` when they are not there, once and in order."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest:
        raise ValueError(f"the document has not one pair of marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{measured.strip()}\n{END}{after}"
