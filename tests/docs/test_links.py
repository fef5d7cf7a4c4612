"""Every relative link of every page leads to a file, and every anchor to a heading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import Page, pages, slug_of
from tests.support.source import ROOT

ABROAD = ("http://", "https://", "mailto:")


def broken_links(page: Page) -> list[str]:
    found = []
    for link in page.links:
        if link.target.startswith(ABROAD):
            continue
        file, _, anchor = link.target.partition("#")
        other = Page((page.path.parent / file).resolve()) if file else page
        if file and not (other.path.exists() and other.path.is_relative_to(ROOT)):
            found.append(f"{link.place}: {link.target}: there is no such file")
        elif anchor and (other.path.suffix != ".md" or anchor not in other.anchors):
            found.append(f"{link.place}: {link.target}: there is no such heading")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    assert broken_links(page) == []


def test_broken_links_are_found() -> None:
    path = ROOT / "tests" / "docs" / "not_there.md"
    page = Page(path)
    page.__dict__["_parts"] = ([(1, "# Here"), (2, "[a](../../README.md) [b](gone.md) [c](#here) [d](#there)")], [])
    assert broken_links(page) == [
        "tests/docs/not_there.md:2: gone.md: there is no such file",
        "tests/docs/not_there.md:2: #there: there is no such heading",
    ]


def test_every_chapter_can_be_found_from_the_first_page() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in seen:
            continue
        seen.add(path)
        targets = (link.target.partition("#")[0] for link in Page(path).links if not link.target.startswith(ABROAD))
        ahead += [
            found
            for target in targets
            if target.endswith(".md") and (found := (path.parent / target).resolve()).exists()
        ]
    # A note about files of others, or of tests, is for those who look at these files.
    unlinked = {
        page.name for page in pages() if page.path not in seen and not {"vendor", "tests"} & set(page.path.parts)
    }
    assert unlinked == set()


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("Change without loss", "change-without-loss"),
        ("Limits, and what a client is told", "limits-and-what-a-client-is-told"),
        ("`gateway_memory_level` is 3", "gateway_memory_level-is-3"),
        ("[namespaces.&lt;name&gt;]", "namespacesname"),
    ],
)
def test_anchors_are_those_of_github(heading: str, slug: str) -> None:
    assert slug_of(heading) == slug
