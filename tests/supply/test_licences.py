"""No licence slips in unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from supply import licences
from supply.licences import LIST, installed_licences, may_be_shipped, objections
from supply.lock import Locked, shipped


def test_the_list_is_current_and_every_licence_in_it_may_be_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    status = licences.main(["--check"])
    assert status == 0, capsys.readouterr().err
    assert LIST.is_file()


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("Apache-2.0 AND BSD-2-Clause", True),
        ("MIT AND (Apache-2.0 OR GPL-2.0-only)", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND LGPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_copyleft_may_not_be_shipped_unless_there_is_a_choice(expression: str, allowed: bool) -> None:
    assert may_be_shipped(expression) is allowed


def test_a_tolerated_package_that_changes_its_licence_is_looked_at_anew() -> None:
    assert objections({"certifi": "MPL-2.0"}) == []
    assert objections({"certifi": "GPL-3.0-only"}) == ["certifi: GPL-3.0-only"]
    assert objections({"another": "MPL-2.0"}) == ["another: MPL-2.0"]


def test_what_is_tolerated_is_still_locked() -> None:
    assert licences.TOLERATED.keys() <= shipped().keys()


def test_a_list_that_is_not_current_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "THIRD-PARTY.md").write_text(LIST.read_text().replace("| anyio |", "| anyiu |"))
    assert licences.main(["--check"], tmp_path / "THIRD-PARTY.md") == 1
    assert "`make licences` rewrites it" in capsys.readouterr().err


def test_another_version_than_the_locked_one_is_not_described() -> None:
    with pytest.raises(ValueError, match=r"anyio .* is installed, 0\.1 is locked"):
        installed_licences({"anyio": Locked("anyio", "0.1", ("0" * 64,), ())})
