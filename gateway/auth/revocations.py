"""Tokens that are no longer accepted although their signature holds and their time is not over.

A token is revoked by its id (`jti`), or together with all that were issued (`iat`) before a moment, of one user or of
everybody. A token that does not say when it was issued counts as older than any moment.

Theory of operation. What is here is a copy of what Redis remembers; whoever owns it brings the two together. Entries
end by themselves, and the list is swept when it has doubled.
"""

from __future__ import annotations

from typing import Final

from gateway.clock import Clock
from protocol.control_messages import Revoked

SWEEP_AT: Final = 1000
"""Entries from which on the list is swept, whenever it has doubled since the last time."""


class Revocations:
    """What is revoked. Asked for every token, so it is a few dictionary lookups."""

    __slots__ = ("_before", "_clock", "_sweep_at", "_tokens")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._before: dict[str, dict[float, float]] = {}
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        """Entries, over or not."""
        return len(self._tokens) + sum(map(len, self._before.values()))

    def add(self, revoked: Revoked) -> bool:
        """Take an entry. False = it was here already, or is over."""
        if revoked.expire_at <= self._clock.time():
            return False
        if revoked.token_id:
            known = self._tokens.get(revoked.token_id, 0.0)
            self._tokens[revoked.token_id] = max(known, revoked.expire_at)
        else:
            moments = self._before.setdefault(revoked.user, {})
            known = moments.get(revoked.issued_before, 0.0)
            moments[revoked.issued_before] = max(known, revoked.expire_at)
        if len(self) >= self._sweep_at:
            self._sweep()
        return not known

    def concern(self, token_id: str, user: str, issued_at: float | None) -> bool:
        """Whether a token with this id, user and time of issue is revoked. "" = it names none."""
        if not self._tokens and not self._before:
            return False
        now = self._clock.time()
        if token_id and self._tokens.get(token_id, 0.0) > now:
            return True
        for whose in {user, ""}:
            for before, until in self._before.get(whose, {}).items():
                if until > now and (issued_at is None or issued_at < before):
                    return True
        return False

    def _sweep(self) -> None:
        now = self._clock.time()
        self._tokens = {token: until for token, until in self._tokens.items() if until > now}
        for user, moments in list(self._before.items()):
            left = {before: until for before, until in moments.items() if until > now}
            if left:
                self._before[user] = left
            else:
                del self._before[user]
        self._sweep_at = max(SWEEP_AT, 2 * len(self))
