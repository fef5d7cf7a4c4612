"""The lock files as data: what is locked, by which hashes, and who needs it.

There are three. `requirements.lock` has what production needs: the base installation and the extra `server`.
`requirements-build.lock` has what `make` and the image's build stage need beside it: the extras `build` and `embedded`.
`requirements-dev.lock` has everything. Each serves every supported Python and architecture; packages that only other
systems or old patch releases of Python need carry a marker, and are left out here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
RUNTIME_LOCK: Final = ROOT / "requirements.lock"
BUILD_LOCK: Final = ROOT / "requirements-build.lock"
DEVELOPMENT_LOCK: Final = ROOT / "requirements-dev.lock"
PROJECT: Final = "nexus-gateway"
_PINNED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)(?: ; ([^\\]+))?")
_TARGET: Final = MappingProxyType({"sys_platform": "linux", "python_full_version": "3.11.9", "python_version": "3.11"})
"""Where a marker has to hold for a package to count; the rest is as on this machine."""
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
    """Every package of a lock file that Linux needs, by name. Raises ValueError for one without a hash."""
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
            if pinned[3] and not Marker(pinned[3]).evaluate(dict(_TARGET)):
                name = ""
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


def shipped() -> dict[str, Locked]:
    """Everything that users can get: production, and the embedded server with what builds the package."""
    return read_lock(RUNTIME_LOCK) | read_lock(BUILD_LOCK)


def base_names(lock: Mapping[str, Locked]) -> set[str]:
    """What a wheel installs without any extra: the library that backends import."""
    return reachable(lock, direct_dependencies()[""])


def server_names(lock: Mapping[str, Locked]) -> set[str]:
    """What `serve` needs, the library included."""
    extras = direct_dependencies()
    return reachable(lock, extras[""] | extras["server"] | extras["cache"] | extras["outbox"])
