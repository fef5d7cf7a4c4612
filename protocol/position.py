"""A place in a channel's log."""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """`offset` counts publications from 1 (0 = before the first); `epoch` names the life of the log.

    Offsets compare only within one epoch. An empty epoch means "no log".
    """

    offset: int = 0
    epoch: str = ""
