"""What a relay has done, and how much there is to do: for `/metrics` and the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gateway.relay.rows import Figures

if TYPE_CHECKING:
    from gateway.storage.sql import PoolStatus


@dataclass(slots=True)
class Counted:
    """Since the start of this process."""

    published: int = 0
    """Rows published and removed."""
    retried: int = 0
    """Refusals after which a row waits for its next attempt."""
    dead: int = 0
    """Rows given up."""
    dropped: int = 0
    """Entries of the stream that had to go because too many waited."""
    interrupted: int = 0
    """Times that Redis or the source was away in the middle of the work."""


@dataclass(slots=True)
class OutboxReport:
    """The outbox, as this process sees it."""

    counted: Counted
    figures: Figures | None = None
    """None: the database could not be asked, see `trouble`."""
    trouble: str = ""
    """Why nothing is relayed, in words; "" = it is."""
    pool: PoolStatus | None = None


@dataclass(slots=True)
class IngestReport:
    """The stream, as this process sees it."""

    counted: Counted
    waiting: int = 0
    """Entries in the stream."""
    oldest_s: float = 0.0
    """Age of the oldest of them."""
    active: bool = False
    """This process relays it at the moment: one of all nodes does."""
    trouble: str = ""


class RelayReports(NamedTuple):
    """Of the relays that this process has; None = it has no such."""

    outbox: OutboxReport | None = None
    ingest: IngestReport | None = None
