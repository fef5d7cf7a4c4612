"""How much memory is used, and how much is allowed: the first method that works, tried in this order.

1. cgroup version 2, 2. cgroup version 1: what containers and systemd limit. All workers share the group, so that all
   of them see the same figures.
3. host: memory of all edge workers of this gateway, against that plus what the machine has available. Not against
   the machine's total: what others use can neither be taken nor be freed.

A configured limit (`memory.limit_bytes`) is for all edge workers of the gateway together; it comes on top, and the
tighter of the two counts. Every read is of kernel memory, no disk: a look takes about 0.2 ms and happens on the loop.

The rule that is easiest to break: a probe never raises. What cannot be read is logged once and the next method counts;
when none is left there is no reading, and the gateway goes on without a governor.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from gateway.log import get_logger
from gateway.overload.cgroup import Cgroup, find_cgroups
from gateway.overload.reading import Reading

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["Host", "MemoryProbe", "Probe", "Reading", "own_memory"]

PAGE_BYTES: Final = resource.getpagesize()


class Probe(Protocol):
    """What the governor looks at."""

    def read(self) -> Reading | None:
        """The memory now; None when it cannot be known. Does not raise."""
        ...


class Method(Protocol):
    """One way to find out."""

    @property
    def source(self) -> str: ...
    def read(self) -> Reading | None:
        """None = no limit is set this way. Raises OSError and ValueError."""
        ...


class Host:
    """The edge workers' own memory and what the machine has left."""

    __slots__ = ("_meminfo", "_used", "source")

    def __init__(self, root: Path, used: Callable[[], int]) -> None:
        """`used`: bytes of all edge workers."""
        self._meminfo = root / "proc/meminfo"
        self._used = used
        self.source = "host"

    def total(self) -> int:
        """Bytes of memory of the machine. Raises OSError and ValueError."""
        return self._read()[0]

    def read(self) -> Reading:
        total, available = self._read()
        used = self._used()
        return Reading(used, max(1, min(total, used + available)), self.source)

    def _read(self) -> tuple[int, int]:
        found = {}
        for line in self._meminfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(value.split()[0]) * 1024
        if len(found) != 2:
            raise ValueError("no MemTotal and MemAvailable")
        return found["MemTotal"], found["MemAvailable"]


class MemoryProbe:
    """The probe of a worker. `find` makes it."""

    def __init__(
        self, methods: list[Method], pressure: Path, *, used: Callable[[], int], limit_bytes: int, total_bytes: int
    ) -> None:
        """`used`, `limit_bytes`: the configured limit, 0 = none. A limit of `total_bytes` or more limits nothing."""
        self._methods = methods
        self._pressure = pressure
        self._used = used
        self._limit_bytes = limit_bytes
        self._total_bytes = total_bytes
        self._complained: set[str] = set()
        self._log: FilteringBoundLogger = get_logger()

    @classmethod
    def find(cls, root: Path, *, used: Callable[[], int], limit_bytes: int) -> MemoryProbe:
        """What this machine offers. `root` is `/` but in tests; `used`: bytes of all edge workers."""
        host = Host(root, used)
        groups: list[Cgroup] = []
        total = 0
        broken = ""
        try:
            total = host.total()
            groups = find_cgroups(root)
        except (OSError, ValueError) as error:
            broken = str(error)
        pressure = root / "proc/pressure/memory"
        if groups and groups[0].pressure_file.exists():
            pressure = groups[0].pressure_file
        probe = cls([*groups, host], pressure, used=used, limit_bytes=limit_bytes, total_bytes=total)
        if broken:
            probe._complain("control group", broken)
        return probe

    def read(self) -> Reading | None:
        reading = self._first()
        if self._limit_bytes:
            own = Reading(self._used(), self._limit_bytes, "memory.limit_bytes")
            reading = own if reading is None or own.share >= reading.share else reading
        return reading._replace(stalled=self._stalled()) if reading is not None else None

    def _first(self) -> Reading | None:
        for method in self._methods:
            try:
                reading = method.read()
            except (OSError, ValueError) as error:
                self._complain(method.source, str(error))
                continue
            if reading is None or (isinstance(method, Cgroup) and 0 < self._total_bytes <= reading.limit_bytes):
                continue
            return reading
        return None

    def _stalled(self) -> float:
        """`some avg10=1.23 avg60=…`. 0 on kernels that do not tell."""
        try:
            fields = self._pressure.read_text().split()
            return float(fields[1].removeprefix("avg10=")) if fields[0] == "some" else 0.0
        except (OSError, ValueError, IndexError):
            return 0.0

    def _complain(self, source: str, error: str) -> None:
        if source not in self._complained:
            self._complained.add(source)
            self._log.warning("memory cannot be read this way", source=source, error=error)


def own_memory(root: Path) -> int:
    """Bytes that this process has for itself: resident, without what it shares with files and other processes.

    0 where the kernel does not tell.
    """
    try:
        _, resident, shared, *_ = (root / "proc/self/statm").read_text().split()
        return (int(resident) - int(shared)) * PAGE_BYTES
    except (OSError, ValueError):
        return 0
