"""A circuit breaker: after some failures in a row nobody is asked for a while, then one call finds out.

    closed ──failures in a row──▶ open ──after a pause──▶ half open (one call) ──▶ closed, or open again

So a backend that is down is not called by every client that reconnects, and clients hear "temporary" at once instead of
after a time-out. The rule that is easiest to break: every `admit` that said yes is followed by exactly one of
`succeeded`, `failed` and `abandoned`, or a half-open circuit waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """One circuit."""

    __slots__ = ("_changed", "_failures", "_limit", "_monotonic", "_open_s", "_opened_at", "_probing")

    def __init__(
        self, monotonic: Callable[[], float], *, failures: int, open_s: float, changed: Callable[[bool], None]
    ) -> None:
        """`failures` in a row open it, for `open_s` seconds. `changed` hears True when it opens, else False.

        `monotonic`: seconds that never go back.
        """
        self._monotonic = monotonic
        self._limit = failures
        self._open_s = open_s
        self._changed = changed
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, all but one at a time that tries."""
        return self._opened_at is not None

    def admit(self) -> bool:
        """Whether a call may be made now."""
        if self._opened_at is None:
            return True
        if self._probing or self._monotonic() - self._opened_at < self._open_s:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The backend answered."""
        self._failures = 0
        self._probing = False
        if self._opened_at is not None:
            self._opened_at = None
            self._changed(False)

    def failed(self) -> None:
        """It did not."""
        if self._opened_at is not None:
            # One that was under way when it opened says nothing new; the probe does.
            if self._probing:
                self._probing = False
                self._opened_at = self._monotonic()
            return
        self._failures += 1
        if self._failures >= self._limit:
            self._opened_at = self._monotonic()
            self._changed(True)

    def abandoned(self) -> None:
        """Nobody waits for the answer any more."""
        self._probing = False
