"""Memory of the control group that this process is in, of version 2 or 1, as the kernel's files tell it.

`/proc/self/cgroup` names the group, `/proc/self/mountinfo` where its hierarchy is mounted; a container often sees its
own group only, as the root of the mount. A limit may stand at any level up the tree, and it holds for everything
below that level. So each level's limit is compared with that level's own use, and the level with the least room left
counts. Page cache that is not in use (`inactive_file`) is given back before anybody is killed: it does not count.

The rule that is easiest to break: a file that is not there means "no limit here" for limits only. What is used must be
readable, else the group cannot be relied upon, and the caller turns to something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from gateway.overload.reading import Reading

NO_LIMIT: Final = 2**60
"""Version 1 has no word for "no limit": it shows the largest number of pages that fits."""


class Version(NamedTuple):
    """How one version of the interface calls things."""

    name: str
    filesystem: str
    used: str
    limits: tuple[str, ...]
    inactive: str
    inherited: str
    """Line of `memory.stat` with the tightest limit up the tree, also of levels that cannot be seen from here."""


V2: Final = Version("cgroup v2", "cgroup2", "memory.current", ("memory.max", "memory.high"), "inactive_file", "")
"""https://docs.kernel.org/admin-guide/cgroup-v2.html, "Memory Interface Files"."""
V1: Final = Version(
    "cgroup v1",
    "cgroup",
    "memory.usage_in_bytes",
    ("memory.limit_in_bytes",),
    "total_inactive_file",
    "hierarchical_memory_limit",
)
"""https://docs.kernel.org/admin-guide/cgroup-v1/memory.html."""


class Cgroup:
    """The levels of one hierarchy, from the group of this process up to the root of the mount."""

    __slots__ = ("_folders", "_version", "source")

    def __init__(self, version: Version, folders: tuple[Path, ...]) -> None:
        self._version = version
        self._folders = folders
        self.source = version.name

    @property
    def pressure_file(self) -> Path:
        """Stalls of this group alone; version 2 only."""
        return self._folders[0] / "memory.pressure"

    def read(self) -> Reading | None:
        """The level with the least room left; None = there is no limit. Raises OSError and ValueError."""
        tightest: Reading | None = None
        for depth, folder in enumerate(self._folders):
            found = self._read_level(folder, required=depth == 0)
            if found is not None and (tightest is None or found.share > tightest.share):
                tightest = found
        return tightest

    def _read_level(self, folder: Path, *, required: bool) -> Reading | None:
        version = self._version
        limits = [limit for name in version.limits if (limit := _limit(folder / name)) is not None]
        if not limits and not required:
            return None
        try:
            used = int((folder / version.used).read_text())
            stat = _stat(folder / "memory.stat")
        except FileNotFoundError:
            if required:
                raise
            return None  # The root of a hierarchy has no account of its own.
        inherited = stat.get(version.inherited, NO_LIMIT)
        if required and inherited < NO_LIMIT:
            limits.append(inherited)
        if not limits:
            return None
        return Reading(max(0, used - stat.get(version.inactive, 0)), max(1, min(limits)), self.source)


def find_cgroups(root: Path) -> list[Cgroup]:
    """The memory hierarchies that this process is in, version 2 first. Raises OSError and ValueError."""
    paths = _paths((root / "proc/self/cgroup").read_text())
    mounts = (root / "proc/self/mountinfo").read_text()
    found = []
    for version in (V2, V1):
        path = paths.get(version.filesystem)
        mount = _mount(mounts, version)
        if path is None or mount is None:
            continue
        folders = _levels(root, path, *mount)
        if version is V1 or (folders[0] / V2.used).exists():  # Else version 2 is there without its memory controller.
            found.append(Cgroup(version, folders))
    return found


def _paths(text: str) -> dict[str, str]:
    """File system → path of the group with the memory controller: lines are `4:memory:/path`, `0::/path`."""
    paths = {}
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths[V2.filesystem] = path
        elif "memory" in controllers.split(","):
            paths[V1.filesystem] = path
    return paths


def _mount(text: str, version: Version) -> tuple[str, str] | None:
    """(what of the hierarchy is mounted, where): `31 23 0:28 <what> <where> rw … - cgroup cgroup rw,memory`."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, (filesystem, _, options) = left.split(), right.split(" ", 2)
        if filesystem == version.filesystem and (version is V2 or "memory" in options.split(",")):
            return fields[3], fields[4]
    return None


def _levels(root: Path, path: str, mounted: str, where: str) -> tuple[Path, ...]:
    """Folders from the group up to the mount."""
    top = root / where.lstrip("/")
    base = mounted.rstrip("/")
    inside = path[len(base) :] if path == base or path.startswith(f"{base}/") else ""
    folder = top / inside.strip("/") if ".." not in inside else top
    folders = [folder]
    while folder != top:
        folder = folder.parent
        folders.append(folder)
    return tuple(folders)


def _limit(file: Path) -> int | None:
    """Bytes; None for `max`, for what stands for it in version 1, and where there is no such file."""
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        return None
    if text == "max" or int(text) >= NO_LIMIT:
        return None
    return int(text)


def _stat(file: Path) -> dict[str, int]:
    """Lines `name bytes`."""
    pairs = (line.split() for line in file.read_text().splitlines())
    return {name: int(value) for name, value in pairs}
