"""The two databases, as a backend and an operator see them: insert, count, hold up deletes, restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import asyncpg

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child

READY_DEADLINE_S: Final = 60.0
Event = tuple[str, str, str]
"""Event id, channel, payload."""


class Database(Protocol):
    """One database with an outbox."""

    name: str
    url: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def insert(self, events: Sequence[Event]) -> None:
        """In one transaction."""
        ...

    async def left(self) -> set[str]:
        """Event ids in the table, read without disturbing anybody."""
        ...

    def no_deletes(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Whoever wants to delete rows must wait."""
        ...

    async def restart(self) -> None:
        """As after a crash."""
        ...


class Sqlite:
    """A file. Nothing can be restarted: instead the file stays locked for a while."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "app.db"
        self.url = f"sqlite:///{self._path}"

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    async def insert(self, events: Sequence[Event]) -> None:
        await asyncio.to_thread(self._insert, events)

    def _insert(self, events: Sequence[Event]) -> None:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO gateway_outbox (event_id, channel, payload) VALUES (?, ?, ?)", events)
            connection.execute("COMMIT")

    async def left(self) -> set[str]:
        with self._connection() as connection:
            return {event_id for (event_id,) in connection.execute("SELECT event_id FROM gateway_outbox")}

    @contextlib.asynccontextmanager
    async def no_deletes(self) -> AsyncIterator[None]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    async def restart(self) -> None:
        async with self.no_deletes():
            await asyncio.sleep(8.0)  # longer than a relay waits for the lock

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as connection:
            yield connection


class Postgres:
    """A cluster of its own, on a unix socket in its folder."""

    name = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: Child | None = None
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def start(self) -> None:
        """Start it, made anew if there is none. Raises BenchError."""
        if not (self._folder / "data").exists():
            self._create()
        command = [
            *_as_user(),
            str(binaries() / "postgres"),
            "-D",
            str(self._folder / "data"),
            "-k",
            str(self._folder),
        ]
        command += ["-c", "listen_addresses="]
        self._child = Child.start("postgres", command, frozenset(os.sched_getaffinity(0)), self._folder)
        ready = [str(binaries() / "pg_isready"), "-q", "-h", str(self._folder)]
        until = time.monotonic() + READY_DEADLINE_S
        while subprocess.run(ready, check=False).returncode:
            self._child.check_alive()
            if time.monotonic() > until:
                raise BenchError(f"PostgreSQL does not answer after {READY_DEADLINE_S:.0f} s")
            time.sleep(0.05)

    def _create(self) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        command = [*_as_user(), str(binaries() / "initdb"), "--auth=trust", "--username=postgres", "-D"]
        made = subprocess.run([*command, str(self._folder / "data")], capture_output=True, check=False)
        if made.returncode:
            raise BenchError(f"initdb: {made.stderr.decode().strip()}")

    def stop(self) -> None:
        """At once, as a crash."""
        if self._child is not None:
            self._child.kill(signal.SIGQUIT)
            self._child = None

    async def insert(self, events: Sequence[Event]) -> None:
        async with self._connection() as connection, connection.transaction():
            await connection.executemany(
                "INSERT INTO gateway_outbox (event_id, channel, payload) VALUES ($1, $2, $3)", events
            )

    async def left(self) -> set[str]:
        async with self._connection() as connection:
            return {row["event_id"] for row in await connection.fetch("SELECT event_id FROM gateway_outbox")}

    @contextlib.asynccontextmanager
    async def no_deletes(self) -> AsyncIterator[None]:
        async with self._connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE gateway_outbox IN SHARE MODE")
            yield

    async def restart(self) -> None:
        self.stop()
        await asyncio.sleep(2.0)
        await asyncio.to_thread(self.start)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(host=str(self._folder), user="postgres", database="postgres")
        try:
            yield connection
        finally:
            await connection.close()


def binaries() -> Path:
    """Folder of the server's programs. Raises BenchError."""
    server = shutil.which("postgres")
    found = [Path(server).resolve()] if server else sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise BenchError("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    return found[-1].parent


def _as_user() -> list[str]:
    """PostgreSQL does not run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
