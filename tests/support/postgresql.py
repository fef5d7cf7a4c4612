"""A PostgreSQL of a test's own: a cluster in a temporary folder, listening on a unix socket there only."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.requirements import require_postgresql
from tests.support.waiting import DEADLINE_S, POLL_INTERVAL_S

OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",  # a killed server loses nothing by it, only a machine without power would
    "max_connections": "60",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
}
DATABASE = "postgres"
USER = "postgres"


class PostgresServer:
    """One cluster, started or not."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@/{DATABASE}?host={self.folder}"

    def create(self) -> None:
        """Make the cluster. PostgreSQL refuses to run as root: then it runs as the user of Debian's package."""
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        command = [*_as_user(), str(self._binaries / "initdb"), "--no-sync", "--auth=trust", f"--username={USER}"]
        made = subprocess.run([*command, "--pgdata", str(self.folder / "data")], capture_output=True, check=False)
        assert made.returncode == 0, made.stderr.decode()

    def start(self) -> None:
        """Start it, with what is in it, and wait until it answers."""
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [
                *(*_as_user(), str(self._binaries / "postgres"), "-D", str(self.folder / "data")),
                *("-k", str(self.folder), *options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ready = [str(self._binaries / "pg_isready"), "--quiet", "--host", str(self.folder), "--username", USER]
        deadline = time.monotonic() + DEADLINE_S
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(POLL_INTERVAL_S)

    def stop(self) -> None:
        """At once, without a shutdown checkpoint, as after a crash. Harmless when it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(DEADLINE_S)
            self._process = None

    def sql(self, statement: str) -> str:
        """Run one statement, with `psql`; what it prints: a line a row, `|` between columns."""
        command = [str(self._binaries / "psql"), "-h", str(self.folder), "-U", USER, "-qAtc", statement, DATABASE]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _as_user() -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server that runs; gone at the end, in whatever state it is then."""
    binaries = require_postgresql()
    folder = Path(tempfile.mkdtemp(prefix="gw-pg-", dir="/tmp"))  # a unix socket's path must be short
    server = PostgresServer(folder, binaries)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
