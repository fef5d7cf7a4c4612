"""The bench of the outbox is a part of `make bench`, which a database that is not installed must not end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.outbox import __main__ as outbox
from loadtest.outbox.bench import Figures


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The databases that are measured, without measuring them; no PostgreSQL is installed."""
    names: list[str] = []
    handler = signal.getsignal(signal.SIGTERM)

    async def bench(name: str, *_: object) -> Figures:
        names.append(name)
        return Figures(name, 2.0, 4.0, 1.0, 3.0)

    monkeypatch.setattr(outbox, "_bench", bench)
    monkeypatch.setattr("loadtest.outbox.databases.shutil.which", lambda _name: None)
    monkeypatch.setattr(Path, "glob", lambda _folder, _pattern: iter(()))
    yield names
    signal.signal(signal.SIGTERM, handler)


def test_without_postgresql_sqlite_is_measured_and_the_other_is_named(
    measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert outbox.main(["bench"]) == 0
    assert measured == ["sqlite"]
    said = capsys.readouterr().out
    assert "PostgreSQL is not measured: no PostgreSQL server is installed" in said
    assert "sqlite: 2 rows/s, plain publishing 4/s, ratio 0.50" in said


def test_faults_are_for_both_databases_or_for_the_one_that_was_named(
    measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert outbox.main(["faults"]) == 2
    assert "no PostgreSQL server is installed" in capsys.readouterr().out
    assert outbox.main(["bench", "--database", "sqlite"]) == 0
    assert measured == ["sqlite"]
