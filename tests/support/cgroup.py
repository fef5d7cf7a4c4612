"""A control group of the test's own, for processes whose memory is to be limited by the kernel and not by a setting."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.overload.cgroup import V1, V2, Version, find_cgroups
from tests.support.requirements import missing
from tests.support.waiting import DEADLINE_S, POLL_INTERVAL_S


class ControlGroup(NamedTuple):
    """A child of the group that the tests run in."""

    folder: Path
    version: Version

    @property
    def command(self) -> tuple[str, ...]:
        """What a command is put behind to run in this group, with all that it starts."""
        return ("sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh")

    def used_bytes(self) -> int:
        """As the kernel counts, with the cache of files that it could give back."""
        return int((self.folder / self.version.used).read_text())

    def limit(self, size: int) -> int:
        """Allow `size` bytes; what the kernel makes of it, in whole pages."""
        file = self.folder / self.version.limits[0]
        file.write_text(str(size))
        return int(file.read_text())


@contextlib.contextmanager
def control_group() -> Iterator[ControlGroup]:
    """One without a limit. Skips where the tests may not make one: not root, or a file system that is read-only."""
    name = f"nexus-gateway-tests-{os.getpid()}"
    made = None
    for group in find_cgroups(Path("/")):
        folder = group.pressure_file.parent / name
        version = V1 if group.source == V1.name else V2
        with contextlib.suppress(OSError):
            folder.mkdir()
            made = ControlGroup(folder, version)
            if (folder / version.limits[0]).exists():
                break
            folder.rmdir()
            made = None
    if made is None:
        missing("no control group can be made here: that takes root and a writable /sys/fs/cgroup")
    try:
        yield made
    finally:
        deadline = time.monotonic() + DEADLINE_S
        while (made.folder / "cgroup.procs").read_text():
            assert time.monotonic() < deadline, "processes are left in the control group"
            time.sleep(POLL_INTERVAL_S)
        made.folder.rmdir()
