"""A machine's files about memory, in a folder: `/proc` and `/sys/fs/cgroup`, as far as the governor reads them."""

from __future__ import annotations

from pathlib import Path

MIB = 1024 * 1024
V1_NONE = 9223372036854771712
"""What version 1 shows where there is no limit."""
V1_MOUNT = "sys/fs/cgroup/memory"
V2_MOUNT = "sys/fs/cgroup/unified"


class Machine:
    """`root` stands for `/`. 16 GiB, 8 of them available, no control groups until there are some."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._groups = ["5:cpu,cpuacct:/elsewhere"]
        self._mounts = ["22 1 0:21 / /proc rw,nosuid - proc proc rw", "25 1 0:24 / /sys/fs/cgroup rw - tmpfs none rw"]
        self.meminfo(total=16384 * MIB, available=8192 * MIB)
        self._write()

    def meminfo(self, *, total: int, available: int) -> None:
        lines = (
            f"MemTotal: {total // 1024} kB",
            "MemFree: 17 kB",
            f"MemAvailable: {available // 1024} kB",
            "HugePages: 0",
        )
        self.put("proc/meminfo", "\n".join(lines) + "\n")

    def pressure(self, avg10: float, where: str = "proc/pressure/memory") -> None:
        self.put(
            where, f"some avg10={avg10:.2f} avg60=0.10 avg300=0.01 total=1\nfull avg10=99.00 avg60=0 avg300=0 total=1\n"
        )

    def statm(self, *, resident_pages: int, shared_pages: int) -> None:
        self.put("proc/self/statm", f"99999 {resident_pages} {shared_pages} 700 0 5000 0\n")

    def in_v2(self, path: str, *, mounted: str = "/") -> None:
        """This process is in the group `path`; what is `mounted` of the hierarchy."""
        self._groups.append(f"0::{path}")
        self._mounts.append(f"41 25 0:38 {mounted} /{V2_MOUNT} rw,relatime shared:9 - cgroup2 cgroup2 rw")
        self._write()

    def in_v1(self, path: str, *, mounted: str = "/") -> None:
        self._groups.append(f"4:memory:{path}")
        self._mounts.append(f"32 25 0:29 {mounted} /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu")
        self._mounts.append(f"35 25 0:32 {mounted} /{V1_MOUNT} rw,relatime - cgroup cgroup rw,memory")
        self._write()

    def v2(self, path: str, *, current: int, inactive: int = 0, maximum: int = 0, high: int = 0) -> Path:
        """One level; 0 = `max`."""
        folder = f"{V2_MOUNT}/{path}"
        self.put(f"{folder}/memory.current", f"{current}\n")
        self.put(f"{folder}/memory.stat", f"anon 1234\ninactive_file {inactive}\nactive_file 99\n")
        self.put(f"{folder}/memory.max", f"{maximum or 'max'}\n")
        self.put(f"{folder}/memory.high", f"{high or 'max'}\n")
        return self.root / folder

    def v1(
        self, path: str, *, usage: int, inactive: int = 0, limit: int = V1_NONE, hierarchical: int = V1_NONE
    ) -> Path:
        folder = f"{V1_MOUNT}/{path}"
        self.put(f"{folder}/memory.usage_in_bytes", f"{usage}\n")
        self.put(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        stat = (
            f"inactive_file 7\nhierarchical_memory_limit {min(limit, hierarchical)}\ntotal_inactive_file {inactive}\n"
        )
        self.put(f"{folder}/memory.stat", stat)
        return self.root / folder

    def put(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _write(self) -> None:
        self.put("proc/self/cgroup", "\n".join(self._groups) + "\n")
        self.put("proc/self/mountinfo", "\n".join(self._mounts) + "\n")
