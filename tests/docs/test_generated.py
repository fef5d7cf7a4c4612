"""What is made from the code is up to date, and stands somewhere."""

from __future__ import annotations

import pytest

from tests.docs.generated import PARTS, parts_of, renewed
from tests.docs.markdown import Page, pages


@pytest.mark.parametrize("page", [page for page in pages() if parts_of(page)], ids=lambda page: page.name)
def test_made_parts_are_up_to_date(page: Page) -> None:
    text = page.path.read_text()
    assert text == renewed(text), "run `make docs`"


def test_every_made_part_stands_in_one_page() -> None:
    assert sorted(name for page in pages() for name in parts_of(page)) == sorted(PARTS)


def test_an_old_part_is_found() -> None:
    text = "<!-- made by make docs: unsubscribe-codes -->\n| 1 |\n<!-- end of unsubscribe-codes -->\n"
    assert "| 2500 | insufficient state | yes |" in renewed(text)
