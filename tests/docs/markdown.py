"""Every Markdown file of the repository, taken apart: fences, links, headings, inline code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.support.source import ROOT

_FENCE = re.compile(r"^(```+|~~~+) *(\S*)")
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$")
_NOT_OURS = {".venv", "node_modules", "artifacts", "dist", "build"}


class Fence(NamedTuple):
    """A block of code. `place`: file and line of its first line."""

    place: str
    language: str
    text: str


class Word(NamedTuple):
    """Inline code, on one line."""

    place: str
    text: str


class Link(NamedTuple):
    place: str
    target: str


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Path from the root of the project."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def _parts(self) -> tuple[list[tuple[int, str]], list[Fence]]:
        """Lines of prose with their numbers, and fences."""
        prose: list[tuple[int, str]] = []
        fences: list[Fence] = []
        inside: list[str] = []
        opened, language, start = "", "", 0
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            mark = _FENCE.match(line.strip())
            if opened:
                if line.strip() == opened:
                    fences.append(Fence(f"{self.name}:{start}", language, "\n".join(inside) + "\n"))
                    opened, inside = "", []
                else:
                    inside.append(line)
            elif mark:
                opened, language, start = mark[1], mark[2], number + 1
            else:
                prose.append((number, line))
        assert not opened, f"{self.name}:{start}: a block of code without an end"
        return prose, fences

    @property
    def fences(self) -> list[Fence]:
        return self._parts[1]

    @cached_property
    def words(self) -> list[Word]:
        """Inline code. A paragraph is read as a whole, because inline code may go over the end of a line."""
        text = "\n".join(line for _, line in self._numbered())
        return [
            Word(f"{self.name}:{text.count(chr(10), 0, found.start()) + 1}", " ".join(found[2].split()))
            for found in _CODE.finditer(text)
        ]

    @cached_property
    def links(self) -> list[Link]:
        without_code = _CODE.sub(
            lambda found: re.sub(r"[^\n]", "x", found[0]), "\n".join(line for _, line in self._numbered())
        )
        return [
            Link(f"{self.name}:{without_code.count(chr(10), 0, found.start()) + 1}", found[1])
            for found in _LINK.finditer(without_code)
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """What `#…` may follow the name of this page, as GitHub makes it from headings."""
        found: set[str] = set()
        for _, line in self._parts[0]:
            if heading := _HEADING.match(line):
                slug = slug_of(heading[1])
                number = 0
                while (unique := f"{slug}-{number}" if number else slug) in found:
                    number += 1
                found.add(unique)
        return found

    def _numbered(self) -> Iterator[tuple[int, str]]:
        """Every line of the file, those of fences empty, so that positions keep their line."""
        prose = dict(self._parts[0])
        last = max(prose, default=0)
        return ((number, prose.get(number, "")) for number in range(1, last + 1))


def slug_of(heading: str) -> str:
    """GitHub's anchor of a heading: letters, digits, `_` and `-` stay, spaces become `-`, the rest goes."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def pages() -> list[Page]:
    """All of them; not those of installed packages."""
    found = (
        path
        for path in sorted(ROOT.rglob("*.md"))
        if not _NOT_OURS & set(path.relative_to(ROOT).parts)
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )
    return [Page(path) for path in found]


def fences(*languages: str) -> list[Fence]:
    """Blocks of code in any of these languages, in all pages."""
    return [fence for page in pages() for fence in page.fences if fence.language in languages]
