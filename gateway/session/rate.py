"""Rate limits: of one client, and of all connections of a user to one worker.

A client's limit costs one number per client: the generic cell rate algorithm (ITU-T I.371). The number is the client's
"theoretical arrival time": the moment at which its allowance is full again. Once that has passed, the number says
nothing any more, which is why those of users can be thrown away.
"""

from __future__ import annotations

from typing import Final

from gateway.config import Limits

SWEEP_ABOVE: Final = 1000
"""Users whose numbers are kept without looking which still say something."""


class RateLimit:
    """`per_s` commands a second for long, `burst` at once."""

    __slots__ = ("_interval_s", "_tolerance_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._interval_s = 1.0 / per_s
        self._tolerance_s = burst / per_s

    def admit(self, full_again_at: float, commands: int, now: float) -> tuple[int, float]:
        """How many of `commands` may pass at `now` (seconds, monotonic), and the client's new number."""
        start = max(full_again_at, now)
        room = int((now + self._tolerance_s - start) / self._interval_s + 1e-6)
        admitted = max(0, min(commands, room))
        return admitted, start + admitted * self._interval_s


class UserRates:
    """A limit for each user. Remembers those whose allowance is not full, and at most as many others."""

    __slots__ = ("_full_again_at", "_limit", "_sweep_at")

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._full_again_at: dict[str, float] = {}
        self._sweep_at = SWEEP_ABOVE

    def __len__(self) -> int:
        """Users that are remembered."""
        return len(self._full_again_at)

    def admit(self, user: str, wanted: int, now: float) -> int:
        """How many of `wanted` may pass at `now` (seconds, monotonic). Anonymous clients (user "") are not limited."""
        if not user:
            return wanted
        admitted, self._full_again_at[user] = self._limit.admit(self._full_again_at.get(user, 0.0), wanted, now)
        if len(self._full_again_at) > self._sweep_at:
            self._full_again_at = {user: at for user, at in self._full_again_at.items() if at > now}
            self._sweep_at = max(SWEEP_ABOVE, 2 * len(self._full_again_at))
        return admitted


class Rates:
    """The limits besides the one that every client has. None = no such limit."""

    __slots__ = ("publishes", "user_commands", "user_publishes")

    def __init__(self, limits: Limits) -> None:
        self.publishes = RateLimit(limits.publishes_per_s, limits.publishes_burst) if limits.publishes_per_s else None
        self.user_commands = _of_users(limits.user_commands_per_s, limits.user_commands_burst)
        self.user_publishes = _of_users(limits.user_publishes_per_s, limits.user_publishes_burst)


def _of_users(per_s: float, burst: int) -> UserRates | None:
    return UserRates(RateLimit(per_s, burst)) if per_s else None
