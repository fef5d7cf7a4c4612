"""The outbox in the backend's database, and the stream in Redis that backends without one add to."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from gateway.config.base import Secret, Section

POSTGRESQL: Final = ("postgresql://", "postgres://", "postgresql+asyncpg://")
SQLITE: Final = ("sqlite:///", "sqlite+aiosqlite:///")
SERVER: Final = re.compile(r"[\w+]+://(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]*\]|[^/:?]*)(?::(?P<port>[^/?]*))?(?:[/?].*)?")
"""The address of a server, as SQLAlchemy reads it: a password may have anything but an @."""
PORT: Final = re.compile(r"[0-9]{1,5}")


class Outbox(Section):
    """Events that backends have committed to their database, or added to a Redis Stream, on their way to clients."""

    url: Secret = ""
    """Database with the table: `postgresql://` or `sqlite:///path`; empty = there is none."""
    poll_interval_s: Annotated[float, Field(ge=0.01, le=3600)] = 0.5
    """Time between two looks for rows. A NOTIFY of PostgreSQL or a change of the SQLite file makes it shorter."""
    batch_rows: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Rows that are claimed at once."""
    batch_bytes: Annotated[int, Field(ge=65_536, le=2**30)] = 8_388_608
    """Bytes of payloads that are claimed at once; a single larger row is claimed by itself."""
    attempts: Annotated[int, Field(ge=1, le=1000)] = 10
    """Times that Redis may refuse a row before it is a dead letter. A Redis that is away or full does not count."""
    backoff_s: Annotated[float, Field(gt=0, le=3600)] = 0.5
    """Time to wait after the first refusal, doubled with each further one; drawn from its second half."""
    backoff_max_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Upper bound of that time."""
    remember_s: Annotated[float, Field(ge=60, le=2_592_000)] = 86_400.0
    """Time for which Redis remembers an event that is published and may still be in the table: how long all relays may
    be gone after one was killed between the two, before clients would get its last rows twice."""
    lease_s: Annotated[float, Field(ge=1, le=600)] = 15.0
    """SQLite, and the stream: time after which the work of a relay that died goes to another one."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 20
    """Connections that stay open. SQLite, which writes one at a time: 4 at most."""
    pool_overflow: Annotated[int, Field(ge=0, le=1000)] = 15
    """Further connections under load. SQLite: 2 at most."""
    pool_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Time to wait for a free connection."""
    pool_recycle_s: Annotated[float, Field(ge=1, le=86_400)] = 3600.0
    """Age at which a connection is replaced."""
    command_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Time that the database has for one command, and for opening a connection."""
    ingest: bool = False
    """Relay what backends add to the Redis Stream `<prefix>:ingest`."""
    ingest_max_entries: Annotated[int, Field(ge=1000, le=2**31)] = 1_000_000
    """Entries that may wait in the stream; past it the oldest are given up, counted and logged."""
    ingest_dead_max_entries: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Entries that are kept in `<prefix>:ingest-dead`, the newest."""

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.url.startswith("sqlite")

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if url and not url.startswith((*POSTGRESQL, *SQLITE)):
            raise ValueError("must start with postgresql:// or sqlite:/// and a path")
        if url.startswith(POSTGRESQL):
            server = SERVER.fullmatch(url)
            if server is None:
                raise ValueError("is no URL: an @ in the password is written %40")
            port = server["port"]
            if port and not (PORT.fullmatch(port) and 0 < int(port) < 65_536):
                raise ValueError("the port must be a whole number from 1 to 65535")
        if url.startswith(SQLITE) and url.partition(":///")[2].split("?")[0] in ("", ":memory:"):
            raise ValueError("must name a file: nobody else could write to an SQLite database in memory")
        return url

    @model_validator(mode="after")
    def _ascending(self) -> Outbox:
        if self.backoff_max_s < self.backoff_s:
            raise ValueError("backoff_max_s must not be shorter than backoff_s")
        return self
