"""The limits of the machine that a million connections may meet, and how near they are."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that there is so much of."""

    name: str
    used: int
    most: int

    @property
    def share(self) -> float:
        """Used part, 0 to 1."""
        return self.used / self.most if self.most else 0.0


def read_limits(redis_path: str, proc: Path = Path("/proc")) -> list[Limit]:
    """All limits that this kernel shows, the nearest first."""
    memory = psutil.virtual_memory()
    found = [Limit("memory, MiB", (memory.total - memory.available) >> 20, memory.total >> 20)]
    allocated, _, most = _numbers(proc / "sys/fs/file-nr")
    found.append(Limit("open files of the machine (fs.file-max)", allocated, most))
    used = tcp_pages((proc / "net/sockstat").read_text())
    found.append(Limit("socket buffers, pages (net.ipv4.tcp_mem)", used, _numbers(proc / "sys/net/ipv4/tcp_mem")[2]))
    tracked, trackable = (proc / f"sys/net/netfilter/nf_conntrack_{name}" for name in ("count", "max"))
    if tracked.exists():
        found.append(Limit("tracked connections (nf_conntrack_max)", _numbers(tracked)[0], _numbers(trackable)[0]))
    clients = redis_info(redis_path)
    found.append(
        Limit("clients of Redis (maxclients)", clients.get("connected_clients", 0), clients.get("maxclients", 0))
    )
    return sorted(found, key=lambda limit: -limit.share)


def tcp_pages(sockstat: str) -> int:
    """Pages in TCP's buffers, from the text of `/proc/net/sockstat`."""
    for line in sockstat.splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1])
    return 0


def redis_info(path: str) -> dict[str, int]:
    """The whole numbers of `INFO clients` and `INFO memory`."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10.0)
        asking.connect(path)
        asking.sendall(b"INFO clients\r\nINFO memory\r\n")
        text = b""
        while b"used_memory_peak:" not in text and (more := asking.recv(READ_BYTES)):
            text += more
    pairs = (line.partition(":")[::2] for line in text.decode(errors="replace").split("\r\n"))
    return {name: int(value) for name, value in pairs if value.isdecimal()}


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]
