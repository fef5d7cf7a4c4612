"""What is measured with real processes leaves none of them behind, and no file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import is_running


@pytest.fixture
def clean_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for temporary files, which must be empty at the end, as must be the list of new child processes."""
    folder = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))  # a unix socket's path must be short
    before = _running()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
    folder.rmdir()
    assert _running() - before == set()


def _running() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if is_running(child)}
