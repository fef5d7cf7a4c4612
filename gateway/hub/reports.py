"""Saying that publications were dropped, or went past the log, with at most one line a minute for each kind."""

from __future__ import annotations

from typing import Final

from gateway.clock import Clock
from gateway.log import get_logger

INTERVAL_S: Final = 60.0


class DropReports:
    """Logs the first of a kind at once, then one line a minute that says how many there were."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._log = get_logger()
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def dropped(self, channel: str, kind: str, **details: object) -> None:
        """`kind` comes from a closed set; `channel` and `details` are of this one drop."""
        self._say(kind, "publication dropped", channel=channel, reason=kind, **details)

    def bypassed(self, channel: str) -> None:
        """A publication without offset in a channel with history: whoever is away misses it. By namespace."""
        head, colon, _ = channel.partition(":")
        namespace = head.removeprefix("$") if colon else "default"
        self._say(
            f"bypassed {namespace}",
            "publication is not in the history: publish with the publisher, the API or gw_publish, not with PUBLISH",
            namespace=namespace,
            channel=channel,
        )

    def _say(self, kind: str, event: str, **details: object) -> None:
        now = self._clock.monotonic()
        if now - self._last.get(kind, -INTERVAL_S) < INTERVAL_S:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._last[kind] = now
        self._log.warning(event, since_last_line=self._unsaid.pop(kind, 0), **details)
