"""`make audit` never takes silence for good news."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supply import audit
from supply.audit import CLEAN, UNKNOWN, VULNERABLE, verdict


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("".join(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n" for name in ("anyio", "redis")))
    return path


def answer(**packages: list[dict[str, object]]) -> str:
    found = [{"name": name, "version": "1.0", "vulns": vulns} for name, vulns in packages.items()]
    return json.dumps({"dependencies": found, "fixes": []})


def test_every_package_looked_up_and_none_vulnerable(lock: Path) -> None:
    assert verdict(lock, answer(anyio=[], redis=[]), "No known vulnerabilities found") == (
        CLEAN,
        ["requirements.lock: 2 packages, no vulnerability is known"],
    )


def test_a_vulnerable_package_is_named_with_what_fixes_it(lock: Path) -> None:
    status, (line,) = verdict(lock, answer(anyio=[{"id": "PYSEC-1", "fix_versions": ["1.1"]}], redis=[]), "")
    assert status == VULNERABLE
    assert line == "requirements.lock: anyio 1.0: PYSEC-1, fixed in ['1.1']"


def test_a_package_that_was_left_out_is_not_clean(lock: Path) -> None:
    assert verdict(lock, answer(anyio=[]), "")[0] == UNKNOWN


def test_a_package_that_was_skipped_is_not_clean(lock: Path) -> None:
    skipped = json.dumps({"dependencies": [{"name": "anyio", "skip_reason": "?"}, {"name": "redis", "vulns": []}]})
    status, (line,) = verdict(lock, skipped, "")
    assert (status, line) == (UNKNOWN, "requirements.lock: NOT CHECKED: anyio")


def test_a_service_that_does_not_answer_has_a_status_of_its_own(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the real pip-audit; nothing listens on the discard port."""
    status = audit.main(["--osv-url=http://127.0.0.1:9/", "--timeout=1"], [lock])
    assert status == UNKNOWN
    said = capsys.readouterr()
    assert "NOT CHECKED, the vulnerability service gave no answer" in said.err
    assert said.out == ""
