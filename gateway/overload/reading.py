"""What a look at the memory gives."""

from __future__ import annotations

from typing import NamedTuple


class Reading(NamedTuple):
    """Memory at one moment."""

    used_bytes: int
    limit_bytes: int
    """More than 0."""
    source: str
    """Which method it is from, for people."""
    stalled: float = 0.0
    """Percent of the last ten seconds in which some process waited for memory (PSI, `some avg10`)."""

    @property
    def share(self) -> float:
        """Used part of the limit: 0 … 1, and above 1 when it is exceeded."""
        return self.used_bytes / self.limit_bytes
