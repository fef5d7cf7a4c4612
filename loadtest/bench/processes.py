"""Child processes: started on given cores, watched, and always ended by their own pid.

Every child runs in a session of its own: Ctrl-C reaches only the driver, which then stops the children in order.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.bench.ending import running, uninterrupted
from loadtest.bench.errors import BenchError

REPOSITORY = Path(__file__).resolve().parents[2]
"""Where `loadtest` and `gateway` are importable from."""

STOP_DEADLINE_S = 15.0
LOG_LINES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores servers and clients run on. Overlapping when there is only one."""

    server: frozenset[int]
    client: frozenset[int]

    @property
    def apart(self) -> bool:
        """Whether servers and clients have different cores."""
        return not self.server & self.client


def split_cores() -> Cores:
    """One core for servers, the rest for clients; the same one when this process may use only one."""
    *client, server = sorted(os.sched_getaffinity(0))
    return Cores(frozenset({server}), frozenset(client or {server}))


@contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """Put this thread on `cores` for a while. A child that is started meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A process that the driver has started. Its standard error goes to `log`; standard output too, unless it talks."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        cores: frozenset[int],
        folder: Path,
        *,
        talks: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start `command` on `cores`. With `talks`, its standard input and output are pipes of the driver's.
        `environment` is added to this process'. Raises BenchError."""
        log = folder / f"{name}.log"
        with uninterrupted(), log.open("ab") as out, running_on(cores):
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if talks else out,
                    stderr=out,
                    cwd=REPOSITORY,
                    env=os.environ | environment if environment else None,
                    start_new_session=True,
                )
            except OSError as error:
                raise BenchError(f"{name} cannot be started: {error}") from error
            child = cls(name, process, log)
            running[child] = None
        return child

    def check_alive(self) -> None:
        """Raise `BenchError`, with the end of its log, when the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise BenchError(f"{self.name} has ended with exit code {code}{self.last_words()}")

    def last_words(self, lines_shown: int = LOG_LINES_SHOWN) -> str:
        """The end of the log, indented, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()[-lines_shown:]
        return "".join(f"\n    {line}" for line in lines)

    def wait_ready_line(self, deadline_s: float) -> None:
        """Wait until a process that talks has printed the line `ready`."""
        output = self.process.stdout
        if output is None:
            raise BenchError(f"{self.name} was started without a pipe")
        until = time.monotonic() + deadline_s
        received = b""
        while b"ready\n" not in received:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise BenchError(f"{self.name} was not ready within {deadline_s:.0f} s{self.last_words()}")
            if select.select([output], [], [], min(left_s, 0.5))[0]:
                more = os.read(output.fileno(), 4096)
                if not more:
                    self.process.wait(5)
                    self.check_alive()
                received += more

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """That signal, and wait until it has ended."""
        self.process.send_signal(number)
        self.process.wait()
        running.pop(self, None)

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """SIGTERM, and after `deadline_s` SIGKILL to it and what it has started. Returns the exit code."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.poll() is None:
            tree = descendants(self.process.pid)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                for child in tree:
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        running.pop(self, None)
        return self.process.returncode


def descendants(pid: int) -> list[psutil.Process]:
    """What `pid` has started, directly or not."""
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, below the range that clients' own ports are taken from.

    It is this process's until the process ends: no other call, here or in another process, gives it, too. (A cluster
    draws twelve before it opens the first of them.)
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(200):
        port = random.randrange(max(1024, low - 12_000), low)
        with socket.socket() as probe, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
            try:
                probe.bind(("127.0.0.1", port))
                claim.bind(f"\0nexus-gateway-port-{port}")
            except OSError:
                continue
            claim.detach()  # open, and the name with it, until the process ends
            return port
    raise BenchError("no free port on 127.0.0.1 was found in 200 attempts")


def established_by_pid(pids: Sequence[int], port: int) -> dict[int, int]:
    """How many established connections to the local TCP `port` each of these processes holds; without those of none."""
    counts = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            held = psutil.Process(pid).net_connections("tcp")
            count = sum(c.status == psutil.CONN_ESTABLISHED and c.laddr[1] == port for c in held)
            if count:
                counts[pid] = count
    return counts


def open_files(pid: int) -> int:
    """How many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
