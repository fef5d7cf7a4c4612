"""The lock file as data: what is locked, by which hashes, and who needs it.

The lock serves laptops, too: it also has what only builds (`build`) and what embeds a Redis (`embedded`). What a wheel
installs without extras is what can be reached from the project's own dependencies; `via` comments say how.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
RUNTIME_LOCK: Final = ROOT / "requirements.lock"
DEVELOPMENT_LOCK: Final = ROOT / "requirements-dev.lock"
PROJECT: Final = "nexus-gateway"
_PINNED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VIA: Final = re.compile(r"^    #(?: via|  ) +([A-Za-z0-9][A-Za-z0-9._-]*)")


class Locked(NamedTuple):
    """One package of a lock file."""

    name: str
    """Normalised (PEP 503)."""
    version: str
    hashes: tuple[str, ...]
    """SHA-256 of every file that may be installed."""
    needed_by: tuple[str, ...]
    """Packages that ask for it, or PROJECT."""


def read_lock(path: Path = RUNTIME_LOCK) -> dict[str, Locked]:
    """Every package of a lock file by name. Raises ValueError for one without a hash."""
    found: dict[str, Locked] = {}
    name, version = "", ""
    hashes: list[str] = []
    via: list[str] = []

    def finish() -> None:
        if not name:
            return
        if not hashes:
            raise ValueError(f"{path.name}: {name}=={version} has no hash")
        found[name] = Locked(name, version, tuple(hashes), tuple(via))

    for line in path.read_text().splitlines():
        if pinned := _PINNED.match(line):
            finish()
            name, version, hashes, via = canonicalize_name(pinned[1]), pinned[2], [], []
        hashes += _HASH.findall(line)
        if who := _VIA.match(line):
            via.append(canonicalize_name(who[1]))
    finish()
    return found


def direct_dependencies(pyproject: Path = ROOT / "pyproject.toml") -> dict[str, set[str]]:
    """Extra → names of its packages; "" = what every installation has."""
    project = tomllib.loads(pyproject.read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: {canonicalize_name(Requirement(text).name) for text in texts} for extra, texts in lists.items()}


def reachable(lock: Mapping[str, Locked], start: Iterable[str]) -> set[str]:
    """Packages of `lock` in `start`, and all that those need."""
    found: set[str] = set()
    waiting = [name for name in start if name in lock]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [each.name for each in lock.values() if name in each.needed_by]
    return found


def runtime_names(lock: Mapping[str, Locked]) -> set[str]:
    """What a wheel installs without any extra."""
    return reachable(lock, direct_dependencies()[""])
